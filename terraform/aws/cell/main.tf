# One cell, with a state of its own: `terraform init -backend-config=key=cells/eu-1.tfstate`.

variable "aws_region" {
  description = "Where its region is."
  type        = string
}

variable "cell" {
  description = "One of the topology module's `cells`."
  type = object({
    name        = string
    region      = string
    state       = string
    shards      = number
    incarnation = number
    instances   = number
  })
}

variable "network" {
  description = "The output of ../region."
  type = object({
    vpc_id  = string
    subnets = list(string)
  })
}

variable "cluster" {
  description = "The output of ../region."
  type = object({
    name           = string
    security_group = string
  })
}

variable "image" {
  description = "An image with Cellar's programs."
  type        = string
}

variable "allow_plaintext" {
  description = "Routers and cells do not speak TLS yet. True says that the network between them is private."
  type        = bool
}

variable "policy_keys" {
  description = "Whose policies decide: `NAME ed25519:… PATTERN[,PATTERN]` a line, as `cellctl policy keys trust` writes it."
  type        = string
}

provider "aws" {
  region = var.aws_region
}

provider "kubernetes" {
  host                   = data.aws_eks_cluster.this.endpoint
  cluster_ca_certificate = base64decode(data.aws_eks_cluster.this.certificate_authority[0].data)
  exec {
    api_version = "client.authentication.k8s.io/v1"
    command     = "aws"
    args        = ["eks", "get-token", "--cluster-name", var.cluster.name, "--region", var.aws_region]
  }
}

data "aws_eks_cluster" "this" {
  name = var.cluster.name
}

module "cell" {
  source          = "../modules/cell"
  cell            = var.cell
  vpc_id          = var.network.vpc_id
  subnets         = var.network.subnets
  clients         = var.cluster.security_group
  cluster         = var.cluster.name
  image           = var.image
  allow_plaintext = var.allow_plaintext
  policy_keys     = var.policy_keys
}

output "endpoints" {
  description = "As the topology has them."
  value       = module.cell.endpoints
}

output "secret" {
  description = "The secret that an operator fills."
  value       = module.cell.secret
}

output "stores" {
  description = "Where the stores are, for the URLs in the secret."
  value       = module.cell.stores
}

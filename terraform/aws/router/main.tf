# One region's routers, with a state of their own.

variable "region" {
  description = "The region's name in the topology."
  type        = string
}

variable "aws_region" {
  description = "Where it is."
  type        = string
}

variable "cluster" {
  description = "The output of ../region."
  type = object({
    name = string
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

variable "listener_arn" {
  description = "The accelerator's listener, of ../global. Null: callers find the region's load balancer themselves."
  type        = string
  default     = null
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

resource "kubernetes_namespace_v1" "this" {
  metadata {
    name = "cellar-router"
  }
}

module "router" {
  source          = "../modules/router"
  region          = var.region
  namespace       = kubernetes_namespace_v1.this.metadata[0].name
  image           = var.image
  cluster         = var.cluster.name
  allow_plaintext = var.allow_plaintext
  listener_arn    = var.listener_arn
}

output "url" {
  description = "The URL that the topology has of this region."
  value       = module.router.url
}

output "secret" {
  description = "The secret that an operator fills."
  value       = module.router.secret
}

# One region: its network, its cluster, its share of the directory. Its routers (../router) and each of its cells
# (../cell) have a state of their own, so that no apply reaches two of them.

variable "region" {
  description = "The region's name in the topology."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9-]{1,16}$", var.region))
    error_message = "The name of the region is not 1 to 16 of a-z, 0-9 and \"-\": choose another."
  }
}

variable "aws_region" {
  description = "Where it is."
  type        = string
}

variable "cidr" {
  description = "A /16 of its own in the world."
  type        = string
}

variable "zones" {
  description = "Three availability zones."
  type        = list(string)
}

variable "kubernetes_version" {
  description = "As EKS names it."
  type        = string
}

variable "scylla_ami" {
  description = "An image of ScyllaDB for this AWS region."
  type        = string
}

variable "directory_seeds" {
  description = "Addresses of the directory's nodes in other places. None for the first place."
  type        = list(string)
  default     = []
}

variable "peers" {
  description = "Networks of the other places of the directory."
  type        = list(string)
  default     = []
}

provider "aws" {
  region = var.aws_region
}

module "network" {
  source = "../modules/network"
  name   = var.region
  cidr   = var.cidr
  zones  = var.zones
}

module "cluster" {
  source             = "../modules/cluster"
  name               = var.region
  kubernetes_version = var.kubernetes_version
  subnets            = module.network.private_subnets
}

module "directory" {
  source     = "../modules/directory"
  datacenter = var.region
  vpc_id     = module.network.vpc_id
  subnets    = module.network.private_subnets
  clients    = [module.cluster.security_group]
  peers      = var.peers
  seeds      = var.directory_seeds
  ami        = var.scylla_ami
}

output "network" {
  description = "For ../cell, and for the way to other regions."
  value = {
    vpc_id       = module.network.vpc_id
    cidr         = module.network.cidr
    subnets      = module.network.private_subnets
    route_tables = module.network.private_route_tables
  }
}

output "cluster" {
  description = "For ../cell."
  value = {
    name           = module.cluster.name
    security_group = module.cluster.security_group
  }
}

output "directory" {
  description = "Addresses of the directory's nodes here."
  value       = module.directory.addresses
}

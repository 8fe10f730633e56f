# The directory's nodes in one place: three in a region, a zone each, or one at the witness. They are ScyllaDB on
# machines of their own, since a conditional write has to be decided among all regions: Keyspaces decides it
# within one.

variable "datacenter" {
  description = "Its name in the cluster: the region's in the topology, or the witness's."
  type        = string
}

variable "nodes" {
  description = "3 in a region, 1 at the witness."
  type        = number
  default     = 3
  validation {
    condition     = contains([1, 3], var.nodes)
    error_message = "nodes is ${var.nodes}: write 3 for a region, 1 for the witness."
  }
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnets" {
  description = "Private subnets, one a zone, in the order of the zones."
  type        = list(string)
}

variable "clients" {
  description = "Security groups that may ask: those of the clusters' pods here."
  type        = list(string)
}

variable "peers" {
  description = "Networks of the other places of the directory."
  type        = list(string)
  default     = []
}

variable "seeds" {
  description = "Addresses of nodes of other places, so that all are one cluster. None for the first place."
  type        = list(string)
  default     = []
}

variable "ami" {
  description = "An image of ScyllaDB for this AWS region, which reads its settings from the user data."
  type        = string
}

variable "instance_type" {
  description = "With local disks, which ScyllaDB is made for."
  type        = string
  default     = "i4i.large"
}

data "aws_subnet" "of" {
  count = var.nodes
  id    = var.subnets[count.index]
}

locals {
  # Fixed, so that a node that is replaced is found where it was.
  addresses = [for subnet in data.aws_subnet.of : cidrhost(subnet.cidr_block, 10)]
  between   = { data = 7000, data_tls = 7001 }
}

resource "aws_security_group" "this" {
  name        = "cellar-directory-${var.datacenter}"
  description = "Nodes of the directory"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each                     = { for n, group in var.clients : n => group }
  security_group_id            = aws_security_group.this.id
  description                  = "CQL"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 9042
  to_port                      = 9042
}

resource "aws_vpc_security_group_ingress_rule" "among" {
  for_each                     = local.between
  security_group_id            = aws_security_group.this.id
  description                  = "Between nodes of this place: ${each.key}"
  referenced_security_group_id = aws_security_group.this.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "peers" {
  for_each          = { for pair in setproduct(keys(local.between), var.peers) : "${pair[0]} ${pair[1]}" => { port = local.between[pair[0]], from = pair[1] } }
  security_group_id = aws_security_group.this.id
  description       = "Between nodes of all places"
  cidr_ipv4         = each.value.from
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.this.id
  description       = "Anywhere"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_instance" "node" {
  count                  = var.nodes
  ami                    = var.ami
  instance_type          = var.instance_type
  subnet_id              = var.subnets[count.index]
  private_ip             = local.addresses[count.index]
  vpc_security_group_ids = [aws_security_group.this.id]
  tags                   = { Name = "cellar-directory-${var.datacenter}-${count.index}" }

  user_data = jsonencode({
    start_scylla_on_first_boot = true
    # Its own limits are below the two seconds that a client of ours waits: a slow node says itself what it did.
    scylla_yaml = {
      cluster_name                 = "cellar"
      endpoint_snitch              = "org.apache.cassandra.locator.GossipingPropertyFileSnitch"
      listen_address               = local.addresses[count.index]
      rpc_address                  = local.addresses[count.index]
      cas_contention_timeout_in_ms = 1000
      write_request_timeout_in_ms  = 1500
      read_request_timeout_in_ms   = 1500
      range_request_timeout_in_ms  = 1500
      seed_provider = [{
        class_name = "org.apache.cassandra.locator.SimpleSeedProvider"
        parameters = [{ seeds = join(",", concat(var.seeds, local.addresses)) }]
      }]
    }
    post_configuration_script = base64encode(<<-EOT
      #!/bin/sh
      printf 'dc=%s\nrack=%s\nprefer_local=false\n' '${var.datacenter}' 'zone-${count.index}' > /etc/scylla/cassandra-rackdc.properties
    EOT
    )
  })

  metadata_options {
    http_tokens = "required"
  }

  lifecycle {
    # Another image or other settings are rolled out by hand, a node at a time and with a repair between.
    ignore_changes  = [ami, user_data]
    prevent_destroy = true
  }
}

output "addresses" {
  description = "Of its nodes: for `directory_url`, and as seeds of other places."
  value       = local.addresses
}

# What all regions share: two addresses that callers everywhere use, and the nearest region answers.

variable "name" {
  description = "Of the accelerator."
  type        = string
  default     = "cellar"
}

resource "aws_globalaccelerator_accelerator" "this" {
  name            = var.name
  ip_address_type = "IPV4"
}

resource "aws_globalaccelerator_listener" "this" {
  accelerator_arn = aws_globalaccelerator_accelerator.this.arn
  protocol        = "TCP"
  port_range {
    from_port = 80
    to_port   = 80
  }
}

output "listener_arn" {
  description = "For each region's routers."
  value       = aws_globalaccelerator_listener.this.arn
}

output "host" {
  description = "What callers are told."
  value       = aws_globalaccelerator_accelerator.this.dns_name
}

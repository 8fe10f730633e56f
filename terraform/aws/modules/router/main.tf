# One region's routers: pods without any state worth keeping behind a load balancer of their own, which the
# accelerator sends the nearest callers to.

variable "region" {
  description = "The region's name in the topology."
  type        = string
}

variable "namespace" {
  description = "Where the pods are."
  type        = string
}

variable "image" {
  description = "An image with `cellar-router`."
  type        = string
}

variable "replicas" {
  description = "Three: one may fail while another is replaced."
  type        = number
  default     = 3
}

variable "allow_plaintext" {
  description = "Routers and cells do not speak TLS yet. True says that the network between them is private."
  type        = bool
  validation {
    condition     = var.allow_plaintext
    error_message = "A listener beyond loopback refuses to start: set allow_plaintext to true if nobody else is on this network."
  }
}

variable "cluster" {
  description = "The name of the EKS cluster."
  type        = string
}

variable "listener_arn" {
  description = "The accelerator's listener. Null: callers find the region's load balancer themselves."
  type        = string
  default     = null
}

data "aws_region" "here" {}

locals {
  name    = "router"
  labels  = { app = "cellar", role = "router" }
  secrets = ["directory_url", "pepper", "mac_key"]
}

# Made empty: what is in it is written by an operator, and never seen by Terraform.
resource "aws_secretsmanager_secret" "this" {
  name        = "cellar/${var.region}/router"
  description = "JSON: ${join(", ", local.secrets)}"
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "read" {
  statement {
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = [aws_secretsmanager_secret.this.arn]
  }
}

resource "aws_iam_role" "this" {
  name               = "cellar-${var.region}-router"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "read" {
  name   = "secrets"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.read.json
}

resource "kubernetes_service_account_v1" "this" {
  metadata {
    name      = local.name
    namespace = var.namespace
  }
}

resource "aws_eks_pod_identity_association" "this" {
  cluster_name    = var.cluster
  namespace       = var.namespace
  service_account = local.name
  role_arn        = aws_iam_role.this.arn
}

resource "kubernetes_manifest" "secrets" {
  manifest = {
    apiVersion = "secrets-store.csi.x-k8s.io/v1"
    kind       = "SecretProviderClass"
    metadata   = { name = local.name, namespace = var.namespace }
    spec = {
      provider = "aws"
      parameters = {
        usePodIdentity = "true"
        objects = yamlencode([{
          objectName = aws_secretsmanager_secret.this.name
          objectType = "secretsmanager"
          jmesPath   = [for name in local.secrets : { path = name, objectAlias = name }]
        }])
      }
    }
  }
}

resource "kubernetes_config_map_v1" "this" {
  metadata {
    name      = local.name
    namespace = var.namespace
  }
  data = {
    "router.toml" = <<-EOT
      name = "router"
      region = "${var.region}"
      listen = "0.0.0.0:8080"
      admin_listen = "0.0.0.0:8090"
      allow_plaintext = ${var.allow_plaintext}
      log_json = true
      data_dir = "/data"
      directory_url_file = "/secrets/directory_url"
      pepper_file = "/secrets/pepper"
      mac_key_file = "/secrets/mac_key"
    EOT
  }
}

resource "kubernetes_deployment_v1" "this" {
  metadata {
    name      = local.name
    namespace = var.namespace
    labels    = local.labels
  }
  spec {
    replicas = var.replicas
    selector {
      match_labels = local.labels
    }
    strategy {
      rolling_update {
        max_unavailable = "0"
        max_surge       = "1"
      }
    }
    template {
      metadata {
        labels      = local.labels
        annotations = { "cellar/config" = sha256(kubernetes_config_map_v1.this.data["router.toml"]) }
      }
      spec {
        service_account_name             = local.name
        termination_grace_period_seconds = 30
        topology_spread_constraint {
          max_skew           = 1
          topology_key       = "topology.kubernetes.io/zone"
          when_unsatisfiable = "DoNotSchedule"
          label_selector {
            match_labels = local.labels
          }
        }
        container {
          name    = "router"
          image   = var.image
          command = ["cellar-router", "--config", "/config/router.toml"]
          port {
            name           = "public"
            container_port = 8080
          }
          port {
            name           = "admin"
            container_port = 8090
          }
          readiness_probe {
            http_get {
              path = "/readyz"
              port = "admin"
            }
            period_seconds = 2
          }
          liveness_probe {
            http_get {
              path = "/healthz"
              port = "admin"
            }
            failure_threshold = 5
          }
          resources {
            requests = { cpu = "1", memory = "512Mi" }
            limits   = { memory = "1Gi" }
          }
          volume_mount {
            name       = "config"
            mount_path = "/config"
          }
          volume_mount {
            name       = "secrets"
            mount_path = "/secrets"
            read_only  = true
          }
          volume_mount {
            name       = "data"
            mount_path = "/data"
          }
        }
        volume {
          name = "config"
          config_map {
            name = kubernetes_config_map_v1.this.metadata[0].name
          }
        }
        volume {
          name = "secrets"
          csi {
            driver            = "secrets-store.csi.k8s.io"
            read_only         = true
            volume_attributes = { secretProviderClass = local.name }
          }
        }
        # What a router remembers: losing it costs reads of the directory.
        volume {
          name = "data"
          empty_dir {}
        }
      }
    }
  }
  depends_on = [kubernetes_manifest.secrets, aws_eks_pod_identity_association.this]
}

resource "kubernetes_pod_disruption_budget_v1" "this" {
  metadata {
    name      = local.name
    namespace = var.namespace
  }
  spec {
    max_unavailable = "1"
    selector {
      match_labels = local.labels
    }
  }
}

# For callers. Operators reach 8090 from inside.
resource "kubernetes_service_v1" "public" {
  metadata {
    name      = local.name
    namespace = var.namespace
    annotations = {
      "service.beta.kubernetes.io/aws-load-balancer-name"                    = "cellar-${var.region}-router"
      "service.beta.kubernetes.io/aws-load-balancer-scheme"                  = "internet-facing"
      "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"         = "ip"
      "service.beta.kubernetes.io/aws-load-balancer-healthcheck-port"        = "8090"
      "service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol"    = "http"
      "service.beta.kubernetes.io/aws-load-balancer-healthcheck-path"        = "/readyz"
      "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes" = "deregistration_delay.timeout_seconds=20"
    }
  }
  spec {
    type                = "LoadBalancer"
    load_balancer_class = "service.k8s.aws/nlb"
    selector            = local.labels
    port {
      name        = "public"
      port        = 80
      target_port = 8080
    }
  }
  wait_for_load_balancer = true
}

data "aws_lb" "this" {
  name       = "cellar-${var.region}-router"
  depends_on = [kubernetes_service_v1.public]
}

resource "aws_globalaccelerator_endpoint_group" "this" {
  count                 = var.listener_arn == null ? 0 : 1
  listener_arn          = var.listener_arn
  endpoint_group_region = data.aws_region.here.region
  endpoint_configuration {
    endpoint_id                    = data.aws_lb.this.arn
    client_ip_preservation_enabled = true
    weight                         = 128
  }
}

output "url" {
  description = "Of the region's routers, as the topology has it."
  value       = "http://${data.aws_lb.this.dns_name}"
}

output "secret" {
  description = "The secret that an operator fills."
  value       = aws_secretsmanager_secret.this.name
}

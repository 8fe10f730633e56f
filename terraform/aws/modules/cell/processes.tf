# The processes of a cell. Each is a set of its own, since each has a configuration, a folder and an address of
# its own, and is known by them.

locals {
  namespace    = kubernetes_namespace_v1.this.metadata[0].name
  labels       = { app = "cellar", role = "cell", cell = var.cell.name }
  redis_labels = { app = "cellar", role = "redis-quota", cell = var.cell.name }
  processes    = { for n in range(var.cell.instances) : "${var.cell.name}-${n}" => n }
  secrets      = ["postgres_url", "directory_url", "redis_quota_url", "redis_cache_url", "pepper", "mac_key", "redis_acl"]
  hosts        = { for name, service in kubernetes_service_v1.process : name => service.status[0].load_balancer[0].ingress[0].hostname }
}

resource "kubernetes_namespace_v1" "this" {
  metadata {
    name = "cellar-${var.cell.name}"
  }
}

# Made empty: what is in it is written by an operator, and never seen by Terraform.
resource "aws_secretsmanager_secret" "this" {
  name        = "cellar/${var.cell.region}/${var.cell.name}"
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
  name               = "cellar-${var.cell.name}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "read" {
  name   = "secrets"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.read.json
}

resource "kubernetes_service_account_v1" "this" {
  metadata {
    name      = "cell"
    namespace = local.namespace
  }
}

resource "aws_eks_pod_identity_association" "this" {
  cluster_name    = var.cluster
  namespace       = local.namespace
  service_account = "cell"
  role_arn        = aws_iam_role.this.arn
}

resource "kubernetes_manifest" "secrets" {
  manifest = {
    apiVersion = "secrets-store.csi.x-k8s.io/v1"
    kind       = "SecretProviderClass"
    metadata   = { name = var.cell.name, namespace = local.namespace }
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

# Where routers of all regions reach one process: the right one of a cell is asked for by its address.
resource "kubernetes_service_v1" "process" {
  for_each = local.processes
  metadata {
    name      = each.key
    namespace = local.namespace
    annotations = {
      "service.beta.kubernetes.io/aws-load-balancer-name"            = "cellar-${each.key}"
      "service.beta.kubernetes.io/aws-load-balancer-scheme"          = "internal"
      "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type" = "ip"
    }
  }
  spec {
    type                = "LoadBalancer"
    load_balancer_class = "service.k8s.aws/nlb"
    selector            = merge(local.labels, { process = each.key })
    # A process that stops finishes what it has, and names who has its shards by now.
    publish_not_ready_addresses = true
    port {
      name = "data"
      port = 8100
    }
    port {
      name = "admin"
      port = 8190
    }
  }
  wait_for_load_balancer = true
}

resource "kubernetes_config_map_v1" "process" {
  for_each = local.processes
  metadata {
    name      = each.key
    namespace = local.namespace
  }
  data = {
    "cell.toml" = <<-EOT
      name = "${var.cell.name}"
      region = "${var.cell.region}"
      incarnation = ${var.cell.incarnation}
      shards = ${var.cell.shards}
      listen = "0.0.0.0:8100"
      admin_listen = "0.0.0.0:8190"
      instance_endpoint = "http://${local.hosts[each.key]}:8100"
      allow_plaintext = ${var.allow_plaintext}
      log_json = true
      data_dir = "/data"
      postgres_url_file = "/secrets/postgres_url"
      directory_url_file = "/secrets/directory_url"
      redis_quota_url_file = "/secrets/redis_quota_url"
      redis_cache_url_file = "/secrets/redis_cache_url"
      pepper_file = "/secrets/pepper"
      mac_key_file = "/secrets/mac_key"
      policy_keys_file = "/config/policy-keys"
    EOT
    # Public halves: a change reaches the running processes with the volume, and they look at it.
    "policy-keys" = var.policy_keys
  }
}

resource "kubernetes_stateful_set_v1" "process" {
  for_each = local.processes
  metadata {
    name      = each.key
    namespace = local.namespace
    labels    = local.labels
  }
  spec {
    service_name = each.key
    replicas     = 1
    selector {
      match_labels = merge(local.labels, { process = each.key })
    }
    template {
      metadata {
        labels      = merge(local.labels, { process = each.key })
        annotations = { "cellar/config" = sha256(kubernetes_config_map_v1.process[each.key].data["cell.toml"]) }
      }
      spec {
        service_account_name = "cell"
        # It hands its shards over before it closes its listener.
        termination_grace_period_seconds = 60
        security_context {
          run_as_user  = 10001
          run_as_group = 10001
          fs_group     = 10001
        }
        topology_spread_constraint {
          max_skew           = 1
          topology_key       = "topology.kubernetes.io/zone"
          when_unsatisfiable = "ScheduleAnyway"
          label_selector {
            match_labels = local.labels
          }
        }
        # Those of a cell that start together wait for each other.
        init_container {
          name    = "migrate"
          image   = var.image
          command = ["cellar-cell", "migrate", "--config", "/config/cell.toml"]
          volume_mount {
            name       = "config"
            mount_path = "/config"
          }
          volume_mount {
            name       = "secrets"
            mount_path = "/secrets"
            read_only  = true
          }
        }
        container {
          name    = "cell"
          image   = var.image
          command = ["cellar-cell", "--config", "/config/cell.toml"]
          port {
            container_port = 8100
          }
          port {
            container_port = 8190
          }
          readiness_probe {
            http_get {
              path = "/readyz"
              port = 8190
            }
            period_seconds = 2
          }
          liveness_probe {
            http_get {
              path = "/healthz"
              port = 8190
            }
            failure_threshold = 5
          }
          resources {
            requests = { cpu = "1", memory = "768Mi" }
            limits   = { memory = "1536Mi" }
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
            name = each.key
          }
        }
        volume {
          name = "secrets"
          csi {
            driver            = "secrets-store.csi.k8s.io"
            read_only         = true
            volume_attributes = { secretProviderClass = var.cell.name }
          }
        }
      }
    }
    # The names of its lives, and the journal of what it allowed while no store could be asked.
    volume_claim_template {
      metadata {
        name = "data"
      }
      spec {
        access_modes       = ["ReadWriteOncePod"]
        storage_class_name = kubernetes_storage_class_v1.this.metadata[0].name
        resources {
          requests = { storage = "10Gi" }
        }
      }
    }
  }
  depends_on = [kubernetes_manifest.secrets, aws_eks_pod_identity_association.this, kubernetes_config_map_v1.process]
}

resource "kubernetes_pod_disruption_budget_v1" "process" {
  metadata {
    name      = "cell"
    namespace = local.namespace
  }
  spec {
    max_unavailable = "1"
    selector {
      match_labels = local.labels
    }
  }
}

# Nobody but the cell's own processes speaks to its quota Redis.
resource "kubernetes_network_policy_v1" "redis" {
  metadata {
    name      = "redis-quota"
    namespace = local.namespace
  }
  spec {
    pod_selector {
      match_labels = local.redis_labels
    }
    policy_types = ["Ingress"]
    ingress {
      from {
        pod_selector {
          match_labels = local.labels
        }
      }
      ports {
        port     = "6379"
        protocol = "TCP"
      }
    }
  }
}

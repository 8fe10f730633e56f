# What a cell stores in: its own Postgres, its own cache, its own quota Redis.

resource "aws_security_group" "stores" {
  name        = "cellar-${var.cell.name}-stores"
  description = "Stores of cell ${var.cell.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "stores" {
  for_each                     = { postgres = 5432, cache = 6379 }
  security_group_id            = aws_security_group.stores.id
  description                  = each.key
  referenced_security_group_id = var.clients
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_db_subnet_group" "this" {
  name       = "cellar-${var.cell.name}"
  subnet_ids = var.subnets
}

resource "aws_db_parameter_group" "this" {
  name   = "cellar-${var.cell.name}"
  family = "postgres16"

  # Cells do not speak TLS to their stores yet.
  parameter {
    name  = "rds.force_ssl"
    value = "0"
  }
  # Most of the write-ahead log is whole pages: fewer checkpoints, and compressed.
  parameter {
    name  = "wal_compression"
    value = "lz4"
  }
  parameter {
    name  = "max_wal_size"
    value = "8192"
  }
}

# The ledger. With a standby in another zone that has every commit before it is answered, so that
# `ack = "postgres"` survives the loss of a zone.
resource "aws_db_instance" "this" {
  identifier                  = "cellar-${var.cell.name}"
  engine                      = "postgres"
  engine_version              = "16"
  instance_class              = var.postgres_class
  db_name                     = "cell"
  username                    = "cellar"
  manage_master_user_password = true
  allocated_storage           = var.postgres_disk_gib
  max_allocated_storage       = var.postgres_disk_gib * 10
  storage_type                = "gp3"
  storage_encrypted           = true
  multi_az                    = true
  db_subnet_group_name        = aws_db_subnet_group.this.name
  vpc_security_group_ids      = [aws_security_group.stores.id]
  parameter_group_name        = aws_db_parameter_group.this.name
  backup_retention_period     = 14
  deletion_protection         = true
  skip_final_snapshot         = false
  final_snapshot_identifier   = "cellar-${var.cell.name}-last"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_elasticache_subnet_group" "this" {
  name       = "cellar-${var.cell.name}"
  subnet_ids = var.subnets
}

resource "aws_elasticache_parameter_group" "this" {
  name   = "cellar-${var.cell.name}"
  family = "redis7"
  parameter {
    name  = "maxmemory-policy"
    value = "allkeys-lru"
  }
}

# The cache: one node, since losing it costs latency and nothing else.
resource "aws_elasticache_replication_group" "cache" {
  replication_group_id       = "cellar-${var.cell.name}"
  description                = "Cache of cell ${var.cell.name}"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = var.cache_class
  num_cache_clusters         = 1
  parameter_group_name       = aws_elasticache_parameter_group.this.name
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.stores.id]
  at_rest_encryption_enabled = true
  transit_encryption_enabled = false
}

# The quota Redis. Its append-only file is flushed at every commit, to a volume that outlives pod and node; no
# managed one offers that (README).
resource "kubernetes_service_v1" "redis" {
  metadata {
    name      = "${var.cell.name}-redis-quota"
    namespace = local.namespace
  }
  spec {
    cluster_ip = "None"
    selector   = local.redis_labels
    port {
      port = 6379
    }
  }
}

resource "kubernetes_stateful_set_v1" "redis" {
  metadata {
    name      = "${var.cell.name}-redis-quota"
    namespace = local.namespace
    labels    = local.redis_labels
  }
  spec {
    service_name = kubernetes_service_v1.redis.metadata[0].name
    replicas     = 1
    selector {
      match_labels = local.redis_labels
    }
    template {
      metadata {
        labels = local.redis_labels
      }
      spec {
        service_account_name = kubernetes_service_account_v1.this.metadata[0].name
        # It loads its file before it answers.
        termination_grace_period_seconds = 60
        security_context {
          run_as_user  = 999
          run_as_group = 999
          fs_group     = 999
        }
        container {
          name  = "redis"
          image = var.redis_image
          command = [
            "redis-server", "--dir", "/data", "--save", "", "--appendonly", "yes", "--appendfsync", "always",
            "--maxmemory", "${var.redis_memory_gib}gb", "--maxmemory-policy", "noeviction", "--aclfile", "/secrets/redis_acl",
          ]
          port {
            container_port = 6379
          }
          resources {
            # Room for the copy while the file is rewritten.
            requests = { cpu = "1", memory = "${ceil(var.redis_memory_gib * 1.5)}Gi" }
            limits   = { memory = "${ceil(var.redis_memory_gib * 1.5)}Gi" }
          }
          readiness_probe {
            tcp_socket {
              port = 6379
            }
            period_seconds = 2
          }
          volume_mount {
            name       = "data"
            mount_path = "/data"
          }
          volume_mount {
            name       = "secrets"
            mount_path = "/secrets"
            read_only  = true
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
    volume_claim_template {
      metadata {
        name = "data"
      }
      spec {
        access_modes       = ["ReadWriteOncePod"]
        storage_class_name = kubernetes_storage_class_v1.this.metadata[0].name
        resources {
          requests = { storage = "${var.redis_disk_gib}Gi" }
        }
      }
    }
  }
  depends_on = [kubernetes_manifest.secrets, aws_eks_pod_identity_association.this]
}

resource "kubernetes_storage_class_v1" "this" {
  metadata {
    name = "cellar-${var.cell.name}"
  }
  storage_provisioner    = "ebs.csi.aws.com"
  reclaim_policy         = "Retain"
  volume_binding_mode    = "WaitForFirstConsumer"
  allow_volume_expansion = true
  parameters             = { type = "gp3", iops = "6000", throughput = "250", encrypted = "true" }
}

output "endpoints" {
  description = "As the topology has them: the data and the admin listener of each process in turn."
  value       = flatten([for name in sort(keys(local.processes)) : ["http://${local.hosts[name]}:8100", "http://${local.hosts[name]}:8190"]])
}

output "secret" {
  description = "The secret that an operator fills."
  value       = aws_secretsmanager_secret.this.name
}

output "stores" {
  description = "Where the stores are, for the URLs in the secret. The password of Postgres is in `postgres_secret`."
  value = {
    postgres        = aws_db_instance.this.endpoint
    postgres_secret = aws_db_instance.this.master_user_secret[0].secret_arn
    redis_cache     = "${aws_elasticache_replication_group.cache.primary_endpoint_address}:6379"
    redis_quota     = "${kubernetes_service_v1.redis.metadata[0].name}.${local.namespace}.svc.cluster.local:6379"
  }
}

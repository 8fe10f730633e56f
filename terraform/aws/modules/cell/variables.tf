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

variable "vpc_id" {
  description = "The region's network."
  type        = string
}

variable "subnets" {
  description = "Its private subnets."
  type        = list(string)
}

variable "clients" {
  description = "The security group of the cluster's pods: who may reach the stores."
  type        = string
}

variable "cluster" {
  description = "The name of the EKS cluster."
  type        = string
}

variable "image" {
  description = "An image with `cellar-cell`."
  type        = string
}

variable "redis_image" {
  description = "Redis 7 or later."
  type        = string
  default     = "redis:7.4"
}

variable "allow_plaintext" {
  description = "Routers and cells do not speak TLS yet, nor do cells to their stores. True says that the network between them is private."
  type        = bool
  validation {
    condition     = var.allow_plaintext
    error_message = "A listener beyond loopback refuses to start: set allow_plaintext to true if nobody else is on this network."
  }
}

variable "policy_keys" {
  description = "Whose policies decide: `NAME ed25519:… PATTERN[,PATTERN]` a line, as `cellctl policy keys trust` writes it."
  type        = string
  validation {
    condition     = strcontains(var.policy_keys, "ed25519:")
    error_message = "No policy decides whose key is not trusted: name one, `NAME ed25519:… PATTERN`."
  }
}

variable "redis_memory_gib" {
  description = "Of the quota Redis; from 80 % on, users whom it does not hold are put off."
  type        = number
  default     = 16
}

variable "redis_disk_gib" {
  description = "Twice what the append-only file takes: it is rewritten beside itself."
  type        = number
  default     = 100
}

variable "postgres_class" {
  description = "Of the cell's Postgres."
  type        = string
  default     = "db.r7g.large"
}

variable "postgres_disk_gib" {
  description = "At first; it grows to ten times as much."
  type        = number
  default     = 400
}

variable "cache_class" {
  description = "Of the cache Redis."
  type        = string
  default     = "cache.r7g.large"
}

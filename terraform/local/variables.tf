variable "stack" {
  description = "The folder of the world: its state, configuration, secrets and data. Relative to this one."
  type        = string
  default     = ".cellar"
  nullable    = false
}

variable "cellctl" {
  description = "The command line that starts and stops processes. Relative to this folder, or a name on the search path."
  type        = string
  default     = "../../target/debug/cellctl"
  nullable    = false
}

variable "regions" {
  description = "The regions with their cells. Where processes listen is found out when they start."
  type = list(object({
    name      = string
    residency = optional(string)
    cells = list(object({
      name   = string
      state  = optional(string, "open")
      weight = optional(number, 128)
      shards = optional(number) # 4, or 16 where cells have several processes
    }))
  }))
  default = [
    { name = "eu", cells = [{ name = "eu-1" }] },
    { name = "us", cells = [{ name = "us-1" }] },
  ]
  nullable = false
}

variable "default_region" {
  description = "Where foreign ids are placed. Null: the first region."
  type        = string
  default     = null
}

variable "plan" {
  description = "An operator's word that places on a ring may move with this change. It may be withdrawn afterwards."
  type        = string
  default     = null
}

variable "current" {
  description = "What `cellctl topology show --json` prints, so that what may not follow it is refused by the plan. Null: it is refused when it is applied."
  type        = any
  default     = null
}

variable "instances" {
  description = "Processes of each cell. Fixed once the world is there, like the four below."
  type        = number
  default     = 1
  nullable    = false
}

variable "clock" {
  description = "Whose time policies decide by: wall, the machine's, or virtual, the callers'."
  type        = string
  default     = "wall"
  nullable    = false
}

variable "fsync" {
  description = "How the quota Redis flushes: always or everysec."
  type        = string
  default     = "always"
  nullable    = false
}

variable "redis" {
  description = "What each cell's quota Redis is: single, sentinel or cluster."
  type        = string
  default     = "single"
  nullable    = false
}

variable "directory" {
  description = "What the directory is kept in: postgres, cassandra, or the URL of a CQL cluster that is there. Without a password: it would be in Terraform's state."
  type        = string
  default     = "postgres"
  nullable    = false
}

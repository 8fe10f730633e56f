variable "regions" {
  description = "The regions with their cells, in the order they stand in the document. A cell is added as `pending`, or in a region of its own; `endpoints` are the data and the admin listener of each of its processes in turn."
  type = list(object({
    name      = string
    residency = optional(string) # the region's name, if not said
    routers   = optional(list(string), [])
    cells = list(object({
      name        = string
      state       = optional(string, "open") # pending, open, full, draining
      weight      = optional(number, 128)    # virtual nodes on the region's ring
      shards      = optional(number, 4)      # fixed once the cell is on a ring
      incarnation = optional(number, 1)      # lives of the whole cell; only grows
      instances   = optional(number, 1)      # processes; not part of the document
      endpoints   = optional(list(string), [])
    }))
  }))
  nullable = false
}

variable "default_region" {
  description = "Where foreign ids are placed: the same at every router."
  type        = string
  nullable    = false
}

variable "plan" {
  description = "An operator's word that places on a ring may move with this revision. Null: nobody's place moves."
  type        = string
  default     = null
}

variable "witness" {
  description = "The third place that holds one replica of the directory, as a datacenter of its cluster. Two regions on CQL need one."
  type        = string
  default     = null
}

variable "directory" {
  description = "What the directory is kept in: `cql`, a cluster with nodes in every region, or `postgres`, one server."
  type        = string
  default     = "cql"
  nullable    = false
  validation {
    condition     = contains(["cql", "postgres"], var.directory)
    error_message = "directory is \"${var.directory}\": write cql or postgres."
  }
}

variable "replicas" {
  description = "Copies of a row of the directory in each region, where it is a CQL cluster."
  type        = number
  default     = 3
  nullable    = false
  validation {
    condition     = var.replicas >= 1 && floor(var.replicas) == var.replicas
    error_message = "replicas is ${var.replicas}: write a whole number from 1 on, 3 in production."
  }
}

variable "residencies" {
  description = "The residencies that regions may have. Null: any."
  type        = set(string)
  default     = null
}

variable "current" {
  description = "What `cellctl topology show --json` prints: the document in force, and the users of each cell. Null: there is none yet."
  type = object({
    document = object({
      revision       = number
      predecessor    = number
      plan           = optional(string)
      witness        = optional(string)
      default_region = string
      regions = list(object({
        name      = string
        residency = string
        routers   = list(string)
        cells = list(object({
          name        = string
          state       = string
          weight      = number
          shards      = number
          incarnation = number
          endpoints   = list(string)
        }))
      }))
    })
    users = map(number)
  })
  default = null
}

variable "refuse" {
  description = "False: what speaks against the document is only in the output `refused`, and nothing fails."
  type        = bool
  default     = true
  nullable    = false
}

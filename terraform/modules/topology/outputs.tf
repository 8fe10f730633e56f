output "document" {
  description = "The topology document, for `jsonencode` and `cellctl topology apply`. The one in force, if nothing changes."
  value       = local.document

  precondition {
    condition     = !var.refuse || length(local.refused) == 0
    error_message = join("\n", concat(["This topology may not be put in force:"], local.refused))
  }
}

output "changed" {
  description = "Whether the document is another one than that in force."
  value       = !local.unchanged
}

output "refused" {
  description = "What speaks against the document, in sentences that say what to do."
  value       = local.refused
}

output "routers" {
  description = "By region, what its routers have to know."
  value = { for region, cells in { for cell in local.cells : cell.region => cell... } : region => {
    region         = region
    default_region = var.default_region
    # Whom they have to reach: every cell of the world, since a user may be a guest of any region.
    endpoints = flatten(local.cells[*].endpoints)
  } }
}

output "cells" {
  description = "By cell, what its processes have to know."
  value = { for name, cells in { for cell in flatten([for region in var.regions : [
    for cell in region.cells : merge(cell, { region = region.name })
    ]]) : cell.name => cell... } : name => {
    name        = name
    region      = cells[0].region
    state       = cells[0].state
    shards      = cells[0].shards
    incarnation = cells[0].incarnation
    instances   = cells[0].instances
  } }
}

output "directory_replicas" {
  description = "By datacenter, how many copies of a row of the directory it has: what `cellctl directory migrate --replicas` is told. Empty for Postgres."
  value = var.directory != "cql" ? {} : merge(
    { for name in local.region_names : name => var.replicas },
    var.witness == null ? {} : { (coalesce(var.witness, "-")) = 1 },
  )
}

# A world of real processes on this machine. `cellctl world apply` does the work and is safe to repeat; Terraform
# says when.

locals {
  stack   = startswith(var.stack, "/") ? var.stack : abspath("${path.root}/${var.stack}")
  is_path = strcontains(var.cellctl, "/") && !startswith(var.cellctl, "/")
  cellctl = local.is_path ? abspath("${path.root}/${var.cellctl}") : var.cellctl
  regions = [for region in var.regions : merge(region, {
    cells = [for cell in region.cells : merge(cell, {
      shards = cell.shards == null ? (var.instances > 1 ? 16 : 4) : cell.shards
    })]
  })]
  document = module.topology.document
  # What cannot be known before processes have started is left out: where they listen, and the revision.
  world = {
    default_region = local.document.default_region
    witness        = local.document.witness
    regions = [for region in local.document.regions : {
      name      = region.name
      residency = region.residency
      cells = [for cell in region.cells : {
        name   = cell.name
        state  = cell.state
        weight = cell.weight
        shards = cell.shards
      }]
    }]
  }
}

module "topology" {
  source         = "../modules/topology"
  regions        = local.regions
  default_region = var.default_region == null ? try(var.regions[0].name, "") : var.default_region
  plan           = var.plan
  current        = var.current
  # All of it is one machine: a witness would not survive what takes a region away.
  directory = "postgres"
}

# The folder. Its end is the end of the world.
resource "terraform_data" "stack" {
  triggers_replace = local.stack
  input            = local.cellctl

  provisioner "local-exec" {
    when    = destroy
    command = "[ ! -e \"$STACK/state.json\" ] || \"$CELLCTL\" down --delete --stack \"$STACK\""
    environment = {
      CELLCTL = self.input
      STACK   = self.triggers_replace
    }
  }
}

# What is in it. Replaced by whatever changes, which stops nothing: only what it lacks is started, and only what
# has left it is stopped. The plan is no part of it: a word about one step, which may be withdrawn.
resource "terraform_data" "world" {
  triggers_replace = {
    stack = terraform_data.stack.id
    world = jsonencode(local.world)
    shape = jsonencode([var.instances, var.clock, var.fsync, var.redis, var.directory])
  }

  provisioner "local-exec" {
    command = "printf '%s' \"$WORLD\" | \"$CELLCTL\" world apply - --stack \"$STACK\" --instances \"$INSTANCES\" --clock \"$CLOCK\" --fsync \"$FSYNC\" --redis \"$REDIS\" --directory \"$DIRECTORY\""
    environment = {
      CELLCTL   = local.cellctl
      STACK     = local.stack
      WORLD     = jsonencode(merge(local.world, { plan = var.plan }))
      INSTANCES = var.instances
      CLOCK     = var.clock
      FSYNC     = var.fsync
      REDIS     = var.redis
      DIRECTORY = var.directory
    }
  }
}

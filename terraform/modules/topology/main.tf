# The topology document: what the variables say, in the form `cellctl topology apply` reads, as the successor of
# the one in force. What may not be put in force is refused by the rules in rules.tf.

locals {
  wanted = {
    witness        = var.witness
    default_region = var.default_region
    regions = [for region in var.regions : {
      name      = region.name
      residency = coalesce(region.residency, region.name)
      routers   = region.routers
      cells = [for cell in region.cells : {
        name        = cell.name
        state       = cell.state
        weight      = cell.weight
        shards      = cell.shards
        incarnation = cell.incarnation
        endpoints   = cell.endpoints
      }]
    }]
  }

  held = var.current == null ? null : var.current.document

  # A plan is a word about one step. Alone it changes nothing, so that it may be withdrawn afterwards.
  unchanged = local.held == null ? false : jsonencode(local.wanted) == jsonencode({
    witness        = local.held.witness
    default_region = local.held.default_region
    regions        = local.held.regions
  })
  revision = local.held == null ? 0 : local.held.revision
  next = merge(local.wanted, {
    revision    = local.revision + 1
    predecessor = local.revision
    plan        = var.plan
  })

  # By way of text: two objects of different origin have no common type, but one form.
  document = jsondecode(local.unchanged ? jsonencode(local.held) : jsonencode(local.next))
}

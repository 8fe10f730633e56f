# What routers refuse, said before anything is started: of the document alone, and of the step from the one in
# force to it. Each rule is a list of sentences that say what to do, empty if it is kept.

locals {
  name = "^[a-z0-9-]{1,16}$"

  cells = flatten([for region in local.wanted.regions : [
    for cell in region.cells : merge(cell, { region = region.name, on_ring = cell.state != "pending" })
  ]])
  # Two of one name are refused below, and must not end the evaluation before that.
  cells_by_name = { for name, cells in { for cell in local.cells : cell.name => cell... } : name => cells[0] }

  held_regions = local.held == null ? [] : local.held.regions
  held_cells = flatten([for region in local.held_regions : [
    for cell in region.cells : merge(cell, {
      region  = region.name
      on_ring = cell.state != "pending"
      users   = try(var.current.users[cell.name], 0)
    })
  ]])
  region_names      = [for region in local.wanted.regions : region.name]
  held_region_names = [for region in local.held_regions : region.name]

  # Cells of both documents, as they were and as they would be. One that was pending has no users, and nothing
  # of it is fixed yet.
  fixed = [for cell in local.held_cells : { before = cell, after = local.cells_by_name[cell.name] }
  if cell.on_ring && contains(keys(local.cells_by_name), cell.name)]

  leaving = [for cell in local.held_cells : cell if !contains(keys(local.cells_by_name), cell.name)]
  # Who says why a whole region may not go need not say it of each of its cells.
  leaving_regions = [for region in local.held_regions : {
    name  = region.name
    users = sum(concat([0], [for cell in local.leaving : cell.users if cell.region == region.name]))
  } if !contains(local.region_names, region.name)]
  leaving_alone = [for cell in local.leaving : cell if contains(local.region_names, cell.region)]

  users_in_all = local.held == null ? 0 : sum(concat([0], values(var.current.users)))
}

locals {
  document_rules = {
    names = concat(
      [for name in local.region_names : "The name of region \"${name}\" is not 1 to 16 of a-z, 0-9 and \"-\": choose another."
      if !can(regex(local.name, name))],
      [for cell in local.cells : "The name of cell \"${cell.name}\" is not 1 to 16 of a-z, 0-9 and \"-\": choose another."
      if !can(regex(local.name, cell.name))],
    )
    twice = concat(
      [for name in distinct(local.region_names) : "Region ${name} is there twice: give each region a name of its own."
      if length([for other in local.region_names : other if other == name]) > 1],
      [for name in keys(local.cells_by_name) : "Cell ${name} is there twice: give each cell of the world a name of its own."
      if length([for other in local.cells : other if other.name == name]) > 1],
    )
    states = [for cell in local.cells : "The state of cell ${cell.name} is \"${cell.state}\": write pending, open, full or draining."
    if !contains(["pending", "open", "full", "draining"], cell.state)]
    weights = [for cell in local.cells : "The weight of cell ${cell.name} is ${cell.weight}: write a whole number from 0 to 4096."
    if cell.weight < 0 || cell.weight > 4096 || floor(cell.weight) != cell.weight]
    shard_counts = [for cell in local.cells : "Cell ${cell.name} has ${cell.shards} shards: write a whole number from 1 to 1024."
    if cell.shards < 1 || cell.shards > 1024 || floor(cell.shards) != cell.shards]
    incarnations = [for cell in local.cells : "The incarnation of cell ${cell.name} is ${cell.incarnation}: write a whole number from 1 on."
    if cell.incarnation < 1 || floor(cell.incarnation) != cell.incarnation]
    endpoints = [for cell in local.cells : "Cell ${cell.name} has ${length(cell.endpoints)} endpoints: name the data and the admin listener of each process in turn."
    if length(cell.endpoints) % 2 != 0]
    default_region = contains(local.region_names, var.default_region) ? [] : [
      "default_region is ${var.default_region}, which is not among the regions: name one of ${join(", ", local.region_names)}."
    ]
    rings = [for region in local.wanted.regions : "Region ${region.name} has no cell with weight on its ring: make one of its cells open, with a weight."
    if length([for cell in region.cells : cell if cell.state != "pending" && cell.weight > 0]) == 0]
    open_cells = length([for cell in local.cells : cell if cell.region == var.default_region && cell.state == "open"]) > 0 ? [] : [
      "No cell of ${var.default_region}, the default_region, is open, so nobody could sign up there: open one."
    ]
    residencies = [for region in local.wanted.regions : "The residency of region ${region.name} is ${region.residency}: write one of ${join(", ", coalesce(var.residencies, []))}, or add it to residencies."
    if var.residencies != null && !contains(coalesce(var.residencies, []), region.residency)]
    witness = concat(
      var.directory != "cql" || length(local.region_names) != 2 || var.witness != null ? [] : [
        "Two regions have no witness: without one region the directory decides nothing. Name a third place as witness, which holds one replica."
      ],
      var.witness != null && contains(local.region_names, coalesce(var.witness, "-")) ? [
        "The witness ${coalesce(var.witness, "-")} is one of the regions: name a third place, which serves nobody."
      ] : [],
    )
  }

  step_rules = {
    regions_kept = [for pair in local.fixed : "Cell ${pair.before.name} would go from region ${pair.before.region} to ${pair.after.region}: leave it where its users are, and add another one there."
    if pair.before.region != pair.after.region]
    shards_kept = [for pair in local.fixed : "Cell ${pair.before.name} would have ${pair.after.shards} shards instead of ${pair.before.shards}, by which its ledger lies: leave them, or add another cell with so many."
    if pair.before.shards != pair.after.shards]
    incarnations_kept = [for pair in local.fixed : "The incarnation of cell ${pair.before.name} would go back from ${pair.before.incarnation} to ${pair.after.incarnation}: write ${pair.before.incarnation} or a higher one."
    if pair.before.incarnation > pair.after.incarnation]
    users_kept = concat(
      [for region in local.leaving_regions : "Region ${region.name} would leave with ${region.users} users: move them to other cells first."
      if region.users > 0],
      [for cell in local.leaving_alone : "Cell ${cell.name} would leave with ${cell.users} users: move them to other cells first."
      if cell.users > 0],
    )
    drained = [for cell in local.leaving : "Cell ${cell.name} would leave while it is ${cell.state}: make it draining, apply, and let it leave once it has no users."
    if contains(["open", "full"], cell.state)]
    # Without a plan nobody's place on a ring moves, and a cell that may go needs one as well.
    weights_planned = var.plan != null ? [] : concat(
      [for pair in local.fixed : "The weight of cell ${pair.before.name}, which has ${pair.before.users} users, would go from ${pair.before.weight} to ${pair.after.weight}: leave it, or say in plan why places move."
      if pair.after.on_ring && pair.after.weight != pair.before.weight],
      [for pair in local.fixed : "Cell ${pair.before.name}, which has ${pair.before.users} users, would leave its ring: leave it ${pair.before.state}, or say in plan why places move."
      if !pair.after.on_ring],
      [for cell in local.leaving : "Cell ${cell.name} would leave its ring: say in plan why places move."
      if cell.state == "draining"],
      [for cell in local.cells : "Cell ${cell.name} would join the ring of ${cell.region} with weight ${cell.weight}: add it as pending, or say in plan why places move."
        if cell.on_ring && cell.weight > 0 && contains(local.held_region_names, cell.region)
      && !contains([for held in local.held_cells : held.name if held.on_ring], cell.name)],
    )
    default_region_planned = local.held == null || var.plan != null ? [] : local.held.default_region == var.default_region ? [] : [
      "default_region, where foreign ids are placed, would go from ${local.held.default_region} to ${var.default_region} while there are ${local.users_in_all} users: leave it, or say in plan why places move."
    ]
  }

  # The rules of a step ask for a sound document.
  refused = concat(flatten(values(local.document_rules)), flatten(values(local.step_rules)))
}

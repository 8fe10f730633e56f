# What is refused of a step from the document in force: one run a rule, with every sentence that comes of it.

variables {
  refuse         = false
  directory      = "postgres"
  default_region = "eu"
  regions = [
    { name = "eu", cells = [{ name = "eu-1" }, { name = "eu-2", state = "draining" }, { name = "eu-3", state = "pending" }] },
    { name = "us", cells = [{ name = "us-1" }] },
  ]
  current = {
    users = { eu-1 = 5, eu-2 = 2, us-1 = 3 }
    document = { revision = 7, predecessor = 6, default_region = "eu", regions = [
      { name = "eu", residency = "eu", routers = [], cells = [
        { name = "eu-1", state = "open", weight = 128, shards = 4, incarnation = 2, endpoints = [] },
        { name = "eu-2", state = "draining", weight = 128, shards = 4, incarnation = 1, endpoints = [] },
        { name = "eu-3", state = "pending", weight = 128, shards = 4, incarnation = 1, endpoints = [] },
      ] },
      { name = "us", residency = "us", routers = [], cells = [
        { name = "us-1", state = "open", weight = 128, shards = 4, incarnation = 1, endpoints = [] },
      ] },
    ] }
  }
}

run "an_incarnation_that_goes_back" {
  command = plan
  assert {
    condition     = output.refused == ["The incarnation of cell eu-1 would go back from 2 to 1: write 2 or a higher one."]
    error_message = join("\n", output.refused)
  }
}

run "another_count_of_shards_even_by_plan_but_of_a_pending_cell" {
  command = plan
  variables {
    plan = "more shards"
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2, shards = 8 }, { name = "eu-2", state = "draining" }, { name = "eu-3", state = "pending", shards = 16 }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["Cell eu-1 would have 8 shards instead of 4, by which its ledger lies: leave them, or add another cell with so many."]
    error_message = join("\n", output.refused)
  }
}

run "another_region_for_a_cell_even_by_plan" {
  command = plan
  variables {
    plan = "us-1 comes home"
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2 }, { name = "eu-2", state = "draining" }, { name = "us-1" }] },
      { name = "us", cells = [{ name = "us-2" }] },
    ]
  }
  assert {
    condition     = output.refused == ["Cell us-1 would go from region us to eu: leave it where its users are, and add another one there."]
    error_message = join("\n", output.refused)
  }
}

run "another_weight_without_a_plan" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2, weight = 64 }, { name = "eu-2", state = "draining" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["The weight of cell eu-1, which has 5 users, would go from 128 to 64: leave it, or say in plan why places move."]
    error_message = join("\n", output.refused)
  }
}

run "a_cell_that_joins_a_ring_without_a_plan" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2 }, { name = "eu-2", state = "draining" }, { name = "eu-3" }, { name = "eu-4" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition = output.refused == [
      "Cell eu-3 would join the ring of eu with weight 128: add it as pending, or say in plan why places move.",
      "Cell eu-4 would join the ring of eu with weight 128: add it as pending, or say in plan why places move.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "a_cell_that_leaves_its_ring_without_a_plan" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2 }, { name = "eu-2", state = "pending" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["Cell eu-2, which has 2 users, would leave its ring: leave it draining, or say in plan why places move."]
    error_message = join("\n", output.refused)
  }
}

run "places_move_by_plan" {
  command = plan
  variables {
    plan           = "rebalance"
    default_region = "us"
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2, weight = 64 }, { name = "eu-2", state = "draining" }, { name = "eu-3" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = length(output.refused) == 0 && output.document.revision == 8
    error_message = join("\n", output.refused)
  }
}

run "a_cell_that_leaves_with_users_and_one_in_use" {
  command = plan
  variables {
    plan = "both are given up"
    regions = [
      { name = "eu", cells = [{ name = "eu-9" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition = output.refused == [
      "Cell eu-1 would leave while it is open: make it draining, apply, and let it leave once it has no users.",
      "Cell eu-1 would leave with 5 users: move them to other cells first.",
      "Cell eu-2 would leave with 2 users: move them to other cells first.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "a_drained_cell_that_leaves_without_a_plan" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2 }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition = output.refused == [
      "Cell eu-2 would leave with 2 users: move them to other cells first.",
      "Cell eu-2 would leave its ring: say in plan why places move.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "a_region_that_leaves_with_users" {
  command = plan
  variables {
    plan = "us is given up"
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2 }, { name = "eu-2", state = "draining" }] },
    ]
  }
  assert {
    condition = output.refused == [
      "Cell us-1 would leave while it is open: make it draining, apply, and let it leave once it has no users.",
      "Region us would leave with 3 users: move them to other cells first.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "another_default_region_without_a_plan" {
  command = plan
  variables {
    default_region = "us"
    regions = [
      { name = "eu", cells = [{ name = "eu-1", incarnation = 2 }, { name = "eu-2", state = "draining" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["default_region, where foreign ids are placed, would go from eu to us while there are 10 users: leave it, or say in plan why places move."]
    error_message = join("\n", output.refused)
  }
}

run "a_step_that_breaks_several_rules_is_told_all_of_them" {
  command = plan
  variables {
    refuse         = true
    default_region = "us"
    regions = [
      { name = "eu", cells = [{ name = "eu-1", shards = 8 }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  expect_failures = [output.document]
}

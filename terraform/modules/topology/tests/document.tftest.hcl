# What the module makes of a world that may be put in force.

variables {
  default_region = "eu"
  directory      = "postgres"
  regions = [
    { name = "eu", routers = ["http://r-eu"], cells = [{ name = "eu-1", endpoints = ["http://a", "http://b"] }] },
    { name = "us", residency = "na", cells = [{ name = "us-1", state = "full", weight = 64, shards = 16, instances = 2 }] },
  ]
}

run "the_first_document_is_revision_1_with_what_was_not_said_filled_in" {
  command = plan
  assert {
    condition = jsonencode(output.document) == jsonencode({
      revision = 1, predecessor = 0, plan = null, witness = null, default_region = "eu"
      regions = [
        { name = "eu", residency = "eu", routers = ["http://r-eu"], cells = [
          { name = "eu-1", state = "open", weight = 128, shards = 4, incarnation = 1, endpoints = ["http://a", "http://b"] }
        ] },
        { name = "us", residency = "na", routers = [], cells = [
          { name = "us-1", state = "full", weight = 64, shards = 16, incarnation = 1, endpoints = [] }
        ] },
      ]
    })
    error_message = "Another document: ${jsonencode(output.document)}"
  }
  assert {
    condition     = output.changed && length(output.refused) == 0
    error_message = "A first document is a change that nothing speaks against."
  }
  assert {
    condition = jsonencode(output.cells) == jsonencode({
      eu-1 = { name = "eu-1", region = "eu", state = "open", shards = 4, incarnation = 1, instances = 1 }
      us-1 = { name = "us-1", region = "us", state = "full", shards = 16, incarnation = 1, instances = 2 }
    })
    error_message = "Another input for cells: ${jsonencode(output.cells)}"
  }
  assert {
    condition     = output.routers["us"].default_region == "eu" && jsonencode(output.routers["us"].endpoints) == jsonencode(["http://a", "http://b"])
    error_message = "Another input for routers: ${jsonencode(output.routers)}"
  }
  assert {
    condition     = length(output.directory_replicas) == 0
    error_message = "Postgres has no replicas to tell of."
  }
}

run "held" {
  command = apply
}

run "the_same_world_is_the_document_in_force_whatever_the_plan_says" {
  command = plan
  variables {
    plan    = "a word about the step before"
    current = { document = run.held.document, users = { eu-1 = 5 } }
  }
  assert {
    condition     = !output.changed && jsonencode(output.document) == jsonencode(run.held.document)
    error_message = "Nothing was changed, and this came out: ${jsonencode(output.document)}"
  }
}

run "a_pending_cell_and_a_region_of_its_own_join_without_a_plan" {
  command = plan
  variables {
    current = { document = run.held.document, users = { eu-1 = 5 } }
    regions = [
      { name = "eu", routers = ["http://r-eu"], cells = [
        { name = "eu-1", endpoints = ["http://a", "http://b"] },
        { name = "eu-2", state = "pending" },
      ] },
      { name = "us", residency = "na", cells = [{ name = "us-1", state = "full", weight = 64, shards = 16 }] },
      { name = "ap", cells = [{ name = "ap-1" }] },
    ]
  }
  assert {
    condition     = output.changed && output.document.revision == 2 && output.document.predecessor == 1 && output.document.plan == null
    error_message = "Not the next revision: ${jsonencode(output.document)}"
  }
}

run "an_empty_cell_that_was_drained_leaves_by_plan_and_one_that_is_pending_without" {
  command = plan
  variables {
    plan = "eu-2 is given up"
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }] }
    ]
    current = {
      users = { eu-1 = 5, eu-2 = 0 }
      document = { revision = 7, predecessor = 6, default_region = "eu", regions = [
        { name = "eu", residency = "eu", routers = [], cells = [
          { name = "eu-1", state = "open", weight = 128, shards = 4, incarnation = 1, endpoints = [] },
          { name = "eu-2", state = "draining", weight = 128, shards = 4, incarnation = 1, endpoints = [] },
          { name = "eu-3", state = "pending", weight = 128, shards = 4, incarnation = 1, endpoints = [] },
        ] }
      ] }
    }
  }
  assert {
    condition     = output.document.revision == 8 && output.document.plan == "eu-2 is given up"
    error_message = "Not the next revision by plan: ${jsonencode(output.document)}"
  }
}

run "a_later_life_of_a_cell_with_other_endpoints_moves_nobody" {
  command = plan
  variables {
    current = { document = run.held.document, users = { eu-1 = 5 } }
    regions = [
      { name = "eu", routers = ["http://r-eu"], cells = [{ name = "eu-1", incarnation = 2, endpoints = ["http://c", "http://d"] }] },
      { name = "us", residency = "na", cells = [{ name = "us-1", state = "open", weight = 64, shards = 16 }] },
    ]
  }
  assert {
    condition     = output.document.revision == 2 && output.document.regions[0].cells[0].incarnation == 2
    error_message = "Not the next revision: ${jsonencode(output.document)}"
  }
}

run "two_regions_on_cql_have_three_replicas_each_and_one_at_the_witness" {
  command = plan
  variables {
    directory = "cql"
    witness   = "ch"
  }
  assert {
    condition     = output.directory_replicas == tomap({ eu = 3, us = 3, ch = 1 })
    error_message = "Other replicas: ${jsonencode(output.directory_replicas)}"
  }
}

run "a_document_that_is_refused_does_not_come_out" {
  command = plan
  variables {
    default_region = "mars"
  }
  expect_failures = [output.document]
}

run "a_directory_of_another_kind_is_refused" {
  command = plan
  variables {
    directory = "mysql"
  }
  expect_failures = [var.directory]
}

run "half_a_replica_is_refused" {
  command = plan
  variables {
    replicas = 1.5
  }
  expect_failures = [var.replicas]
}

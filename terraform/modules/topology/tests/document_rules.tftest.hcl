# What is refused of a document, whatever is in force: one run a rule, with every sentence that comes of it.

variables {
  refuse         = false
  directory      = "postgres"
  default_region = "eu"
  regions        = [{ name = "eu", cells = [{ name = "eu-1" }] }]
}

run "a_name_of_other_letters_or_none_or_too_many" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }, { name = "" }, { name = "a-name-of-17-chars" }] },
      { name = "US", cells = [{ name = "us_1" }] },
    ]
  }
  assert {
    condition = output.refused == [
      "The name of region \"US\" is not 1 to 16 of a-z, 0-9 and \"-\": choose another.",
      "The name of cell \"\" is not 1 to 16 of a-z, 0-9 and \"-\": choose another.",
      "The name of cell \"a-name-of-17-chars\" is not 1 to 16 of a-z, 0-9 and \"-\": choose another.",
      "The name of cell \"us_1\" is not 1 to 16 of a-z, 0-9 and \"-\": choose another.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "a_name_that_is_there_twice" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }, { name = "eu-1" }] },
      { name = "us", cells = [{ name = "us-1" }] },
      { name = "us", cells = [{ name = "eu-1" }] },
    ]
  }
  assert {
    condition = output.refused == [
      "Region us is there twice: give each region a name of its own.",
      "Cell eu-1 is there twice: give each cell of the world a name of its own.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "a_state_that_there_is_not" {
  command = plan
  variables {
    regions = [{ name = "eu", cells = [{ name = "eu-1" }, { name = "eu-2", state = "closed" }] }]
  }
  assert {
    condition     = output.refused == ["The state of cell eu-2 is \"closed\": write pending, open, full or draining."]
    error_message = join("\n", output.refused)
  }
}

run "a_weight_below_nothing_above_4096_or_in_parts" {
  command = plan
  variables {
    regions = [{ name = "eu", cells = [
      { name = "eu-1" }, { name = "eu-2", weight = -1 }, { name = "eu-3", weight = 4097 }, { name = "eu-4", weight = 1.5 },
    ] }]
  }
  assert {
    condition = output.refused == [
      "The weight of cell eu-2 is -1: write a whole number from 0 to 4096.",
      "The weight of cell eu-3 is 4097: write a whole number from 0 to 4096.",
      "The weight of cell eu-4 is 1.5: write a whole number from 0 to 4096.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "no_shards_or_too_many" {
  command = plan
  variables {
    regions = [{ name = "eu", cells = [{ name = "eu-1", shards = 0 }, { name = "eu-2", shards = 1025 }] }]
  }
  assert {
    condition = output.refused == [
      "Cell eu-1 has 0 shards: write a whole number from 1 to 1024.",
      "Cell eu-2 has 1025 shards: write a whole number from 1 to 1024.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "an_incarnation_before_the_first" {
  command = plan
  variables {
    regions = [{ name = "eu", cells = [{ name = "eu-1", incarnation = 0 }] }]
  }
  assert {
    condition     = output.refused == ["The incarnation of cell eu-1 is 0: write a whole number from 1 on."]
    error_message = join("\n", output.refused)
  }
}

run "an_endpoint_without_its_admin_listener" {
  command = plan
  variables {
    regions = [{ name = "eu", cells = [{ name = "eu-1", endpoints = ["http://a", "http://b", "http://c"] }] }]
  }
  assert {
    condition     = output.refused == ["Cell eu-1 has 3 endpoints: name the data and the admin listener of each process in turn."]
    error_message = join("\n", output.refused)
  }
}

run "a_default_region_that_there_is_not" {
  command = plan
  variables {
    default_region = "mars"
  }
  assert {
    condition = output.refused == [
      "default_region is mars, which is not among the regions: name one of eu.",
      "No cell of mars, the default_region, is open, so nobody could sign up there: open one.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "a_region_without_a_ring" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }] },
      { name = "us", cells = [{ name = "us-1", state = "pending" }, { name = "us-2", weight = 0 }] },
      { name = "ap", cells = [] },
    ]
  }
  assert {
    condition = output.refused == [
      "Region us has no cell with weight on its ring: make one of its cells open, with a weight.",
      "Region ap has no cell with weight on its ring: make one of its cells open, with a weight.",
    ]
    error_message = join("\n", output.refused)
  }
}

run "no_open_cell" {
  command = plan
  variables {
    regions = [
      { name = "eu", cells = [{ name = "eu-1", state = "full" }, { name = "eu-2", state = "draining" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["No cell of eu, the default_region, is open, so nobody could sign up there: open one."]
    error_message = join("\n", output.refused)
  }
}

run "a_residency_that_is_not_allowed" {
  command = plan
  variables {
    residencies = ["eu", "na"]
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }] },
      { name = "us", residency = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["The residency of region us is us: write one of eu, na, or add it to residencies."]
    error_message = join("\n", output.refused)
  }
}

run "two_regions_on_cql_without_a_witness" {
  command = plan
  variables {
    directory = "cql"
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["Two regions have no witness: without one region the directory decides nothing. Name a third place as witness, which holds one replica."]
    error_message = join("\n", output.refused)
  }
}

run "a_witness_that_is_one_of_the_regions" {
  command = plan
  variables {
    directory = "cql"
    witness   = "us"
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }] },
      { name = "us", cells = [{ name = "us-1" }] },
    ]
  }
  assert {
    condition     = output.refused == ["The witness us is one of the regions: name a third place, which serves nobody."]
    error_message = join("\n", output.refused)
  }
}

run "one_region_or_three_or_postgres_need_no_witness" {
  command = plan
  variables {
    directory = "cql"
    regions = [
      { name = "eu", cells = [{ name = "eu-1" }] },
      { name = "us", cells = [{ name = "us-1" }] },
      { name = "ap", cells = [{ name = "ap-1" }] },
    ]
  }
  assert {
    condition     = length(output.refused) == 0
    error_message = join("\n", output.refused)
  }
}

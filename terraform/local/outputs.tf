output "stack" {
  description = "The folder, for `cellctl --stack`."
  value       = local.stack
}

output "cells" {
  description = "The cells of the world, by region."
  value       = { for region in local.world.regions : region.name => region.cells[*].name }
}

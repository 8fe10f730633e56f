terraform {
  # Validations and conditions that look at more than one variable, and `terraform test`.
  required_version = ">= 1.9"
}

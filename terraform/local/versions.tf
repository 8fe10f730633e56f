terraform {
  # `terraform_data` is Terraform's own: no provider has to be fetched.
  required_version = ">= 1.9"
}

"""What scripts/record-faults does to a stack, and which alerts must fire because of it."""

"""What a user runs, one job a file. The command `convzoo` runs them by name."""

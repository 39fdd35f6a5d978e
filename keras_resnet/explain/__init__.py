"""What a network is made of, and what its skips do."""

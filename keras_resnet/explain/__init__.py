"""Effect of the shortcuts of a network."""

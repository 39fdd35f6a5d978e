"""Weights trained elsewhere -> a network of ours: read, renamed, compared, only then assigned."""

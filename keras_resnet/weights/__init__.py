"""Loads weights trained elsewhere: read, rename, compare, and only then assign."""

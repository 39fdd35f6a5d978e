"""Analyses of the effect of a network's shortcuts."""

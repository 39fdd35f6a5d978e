"""Structure of a network, and effect of its shortcuts."""

"""Settings and images -> a run folder."""

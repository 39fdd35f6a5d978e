"""Opens any artefact as a classifier, and evaluates it."""

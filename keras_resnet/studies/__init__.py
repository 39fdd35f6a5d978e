"""What several trainings on one data set tell: cross-validation, learning curves, a network for a
budget."""

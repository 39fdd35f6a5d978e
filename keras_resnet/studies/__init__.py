"""Studies with several trainings on one data set: cross-validation, learning curves, and the search
for a network within a budget."""

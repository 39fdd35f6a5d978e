"""Sources -> checked -> decoded -> a random or a centred view -> batched; one file per arrow."""

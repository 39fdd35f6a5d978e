"""The input pipeline: source -> check -> decode -> random or central view -> batch."""

"""Open any artefact as one thing that predicts; judge it."""

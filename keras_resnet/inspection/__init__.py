"""What networks and exported files consist of. Not `describe`, which is the function."""

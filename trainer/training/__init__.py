"""A run: data, steps, optimizer, checkpoints, the log."""

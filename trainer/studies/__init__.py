"""What one asks of a run."""

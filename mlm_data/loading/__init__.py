"""A version to batches."""

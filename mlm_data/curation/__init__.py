"""Documents to scores, and scores to fates."""

"""Scores to fates: which documents stay, and for what reason the others go."""

"""Versions from versions: no text is read, and nothing is tokenized."""

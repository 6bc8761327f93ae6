"""Datasets to and from the files of other tools: exports for their trainers, imports of what they tokenized."""

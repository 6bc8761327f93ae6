"""Raw files to clean documents: what a file is, reading, characters, normalization."""

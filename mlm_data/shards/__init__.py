"""The format on disk: schemas, writing, reading."""

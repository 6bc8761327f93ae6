"""Raw files to clean documents: reading, extraction, normalization, scores, signatures."""

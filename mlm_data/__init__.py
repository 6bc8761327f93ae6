"""Premask's library: text to statically masked Arrow shards, and back to batches. No Beam, no torch."""

__version__ = "0.1.0"

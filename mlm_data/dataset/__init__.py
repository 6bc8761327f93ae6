"""A version of a dataset: its manifest, its ledger, opening and checking it."""

"""Who has the same text as somebody before."""

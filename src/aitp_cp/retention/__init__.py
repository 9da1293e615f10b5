"""Keeps storage bounded: one policy per table, swept in small batches."""

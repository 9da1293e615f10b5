"""Find anything by an id, and agents by name."""

"""Cutting off a compromised agent in one act, and following how far that has reached."""

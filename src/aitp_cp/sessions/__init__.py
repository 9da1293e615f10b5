"""Handshakes as their two sides reported them."""

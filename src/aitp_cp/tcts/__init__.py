"""Reported trust tokens and delegations, and how revocation runs through them."""

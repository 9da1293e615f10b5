"""Whom a namespace trusts: identity providers with their key sets, and pinned keys."""

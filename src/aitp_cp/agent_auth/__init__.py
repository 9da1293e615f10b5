"""Agents prove their keys, and speak for themselves (contract, part II, section 20)."""

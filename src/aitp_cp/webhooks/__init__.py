"""Subscriptions to events, their secrets, and the view of their circuit breakers."""

"""Telling others: subscriptions, the transactional outbox, and its delivery."""

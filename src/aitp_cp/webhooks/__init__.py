"""Telling others: subscriptions and the transactional outbox."""

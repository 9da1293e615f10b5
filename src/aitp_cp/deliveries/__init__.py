"""Telling subscribers: the outbox behind the log, the leased queue, its dispatcher, and the delivery log."""

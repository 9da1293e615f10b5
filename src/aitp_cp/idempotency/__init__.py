"""Run once: an effect and the answer to it, kept under the caller's Idempotency-Key."""

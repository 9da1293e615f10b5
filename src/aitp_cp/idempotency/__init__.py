"""Run once: an effect and the response to it, kept under the caller's Idempotency-Key."""

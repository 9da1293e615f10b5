"""Reports events for an agent in the background: queue, spool, batches, retries (docs/client.md)."""

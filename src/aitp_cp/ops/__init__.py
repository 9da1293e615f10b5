"""What probes, scrapers and tools ask: health, readiness, metrics, the OpenAPI document."""

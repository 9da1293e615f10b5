"""API keys with scopes: created, rotated and revoked while the service runs, and known to each process."""

"""The web console: server-rendered pages over the rooms' own services (contract, section 22)."""

"""The edge kit: one table of endpoints feeds the router, the gate, the limiter and the OpenAPI document."""

"""AITP control plane: see and steer a fleet of AI agents; observe and audit, never in the trust path."""

__version__ = "0.1.0"

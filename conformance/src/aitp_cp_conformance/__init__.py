"""The contract as checks that a stranger can run against any deployment, over HTTP alone."""

__version__ = "0.1.0"

"""The contract as checks that run against any deployment over HTTP."""

__version__ = "0.1.0"

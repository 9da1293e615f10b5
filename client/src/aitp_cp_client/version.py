"""The version of this distribution, the server and the conformance kit."""

__version__ = "0.1.0"

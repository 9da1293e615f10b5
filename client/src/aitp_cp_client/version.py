"""The version of this distribution; the server and the conformance kit are released with the same one."""

__version__ = "0.1.0"

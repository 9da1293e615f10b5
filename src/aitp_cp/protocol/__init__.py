"""AITP's wire rules: pure functions, no I/O, and the only importer of the SDK."""

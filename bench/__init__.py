"""The benchmark: one command, no network, this machine."""

"""The commands of `aitp-cp` that use a server's API (docs/cli.md)."""

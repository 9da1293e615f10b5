"""The commands for the daily round: a thin use of `aitp_cp.client` (docs/cli.md)."""

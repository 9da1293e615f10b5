"""The commands for the daily round: a thin use of `aitp_cp_client` (docs/cli.md)."""

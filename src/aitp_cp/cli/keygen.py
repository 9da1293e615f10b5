"""aitp-cp keygen."""

import secrets

import typer


def keygen() -> None:
    """Print fresh secrets as environment lines; nothing is stored."""
    typer.echo(f"CP_AID_SEED_HEX={secrets.token_hex(32)}")
    typer.echo(f"ENROLLMENT_SECRET={secrets.token_urlsafe(48)}")
    typer.echo(f"API_KEYS={secrets.token_urlsafe(32)}")

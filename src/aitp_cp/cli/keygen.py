"""aitp-cp keygen."""

import secrets

from aitp_cp_client.commands.output import line


def keygen() -> None:
    """Print fresh secrets as environment lines; nothing is stored."""
    line(f"CP_AID_SEED_HEX={secrets.token_hex(32)}")
    line(f"ENROLLMENT_SECRET={secrets.token_urlsafe(48)}")
    line(f"API_KEYS={secrets.token_urlsafe(32)}")

"""The commands that call a server."""

import typer

from aitp_cp_client.commands.agents import agents
from aitp_cp_client.commands.audit import audit
from aitp_cp_client.commands.containments import containments
from aitp_cp_client.commands.events import events
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.insight import attention, trust
from aitp_cp_client.commands.keys import keys_group, over_http, whoami
from aitp_cp_client.commands.revocations import revocations, revoke
from aitp_cp_client.commands.search import search
from aitp_cp_client.commands.sessions import sessions
from aitp_cp_client.commands.tokens import delegations, tcts
from aitp_cp_client.commands.webhooks import webhooks

PANEL = "At a server (AITP_CP_URL, AITP_CP_API_KEY)"


def add_to(app: typer.Typer) -> None:
    """Add all commands, in a panel of their own."""
    for command in (revoke, whoami, attention, search):
        app.command(epilog=LEGEND, rich_help_panel=PANEL)(command)
    for name, commands in (
        ("agents", agents),
        ("containments", containments),
        ("revocations", revocations),
        ("events", events),
        ("sessions", sessions),
        ("tcts", tcts),
        ("delegations", delegations),
        ("trust", trust),
        ("webhooks", webhooks),
        ("audit", audit),
        ("keys", keys_group(over_http)),
    ):
        app.add_typer(commands, name=name, rich_help_panel=PANEL)

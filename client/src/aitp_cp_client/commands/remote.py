"""The commands that call a server; each loads its modules only when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aitp_cp_client.commands import containment_options, webhook_options
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.grouping import (
    Active,
    AgentOptions,
    AuditExportOptions,
    AuditOptions,
    EventOptions,
    SessionOptions,
    TctOptions,
    WithVerdict,
    as_options,
)
from aitp_cp_client.commands.key_options import Work, keys_group

PANEL = "At a server (AITP_CP_URL, AITP_CP_API_KEY)"

Json = Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file, which is replaced only when complete.")
]
Aid = Annotated[str, typer.Argument(metavar="AID", help="The agent.")]
WithProof = Annotated[
    Literal["shared-key", "agent-token", "signature"] | None, typer.Option("--proof", help="How its reporter is known.")
]
ReportedBy = Annotated[str | None, typer.Option(metavar="AID", help="Reported by this agent itself.")]
WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]


def group(help: str) -> typer.Typer:
    return typer.Typer(help=help, epilog=LEGEND, no_args_is_help=True)


agents = group("Registered agents.")
revocations = group("Revoked tokens.")
events = group("The event log.")
sessions = group("Handshakes.")
tcts = group("Tokens that agents reported.")
delegations = group("Delegations that agents reported.")
trust = group("Who trusts whom.")
webhooks = group("Subscriptions and their deliveries.")
audit = group("The audit of admin changes.")


def _keys_over_http(work: Work) -> None:
    from aitp_cp_client.commands.keys import over_http

    over_http(work)


def add_to(app: typer.Typer) -> None:
    """Add all commands, in a panel of their own."""
    app.command(epilog=LEGEND, rich_help_panel=PANEL)(revoke)
    app.command(epilog=LEGEND, rich_help_panel=PANEL)(whoami)
    app.command(epilog=LEGEND, rich_help_panel=PANEL)(attention)
    app.command(epilog=LEGEND, rich_help_panel=PANEL)(search)
    containment_options.add_to(agents)
    webhook_options.add_to(webhooks)
    for name, commands in (
        ("agents", agents),
        ("containments", containment_options.containments),
        ("revocations", revocations),
        ("events", events),
        ("sessions", sessions),
        ("tcts", tcts),
        ("delegations", delegations),
        ("trust", trust),
        ("webhooks", webhooks),
        ("audit", audit),
        ("keys", keys_group(_keys_over_http)),
    ):
        app.add_typer(commands, name=name, rich_help_panel=PANEL)


@agents.command("list", epilog=LEGEND)
@as_options(AgentOptions)
def agents_list(options: AgentOptions) -> None:
    """List agents, oldest registration first."""
    from aitp_cp_client.commands.agents import list_agents

    list_agents(
        options.limit,
        as_json=options.as_json,
        capability=options.capability,
        display_name=options.name,
        q=options.find,
        namespace=options.namespace,
        status=options.status,
    )


@agents.command("show", epilog=LEGEND)
def agents_show(aid: Aid, as_json: Json = False) -> None:
    """Show an agent."""
    from aitp_cp_client.commands.agents import show

    show(aid, as_json=as_json)


@agents.command("manifests", epilog=LEGEND)
def agents_manifests(aid: Aid, as_json: Json = False) -> None:
    """List the manifests that an agent registered, newest first."""
    from aitp_cp_client.commands.agents import manifests

    manifests(aid, as_json=as_json)


@agents.command("deregister", epilog=LEGEND)
def agents_deregister(aid: Aid, as_json: Json = False) -> None:
    """Remove an agent from the registry; may be repeated."""
    from aitp_cp_client.commands.agents import deregister

    deregister(aid, as_json=as_json)


@agents.command("export", epilog=LEGEND)
def agents_export(
    aid: Aid,
    format: Annotated[Literal["json", "jsonl"], typer.Option(help="One document, or one record per line.")] = "json",
    event_limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="At most this many of its newest events.")
    ] = None,
    output: Output = None,
) -> None:
    """Export an agent with its sessions, tokens and newest events."""
    from aitp_cp_client.commands.agents import export

    export(aid, format, event_limit, output)


def revoke(
    jtis: Annotated[list[str], typer.Argument(metavar="JTI...", help="The tokens' ids.")],
    reason: Annotated[str | None, typer.Option(help="For the list and the audit.")] = None,
    as_json: Json = False,
) -> None:
    """Revoke tokens and everything delegated from them. This cannot be undone."""
    from aitp_cp_client.commands.revocations import revoke

    revoke(jtis, reason, as_json=as_json)


def attention(as_json: Json = False) -> None:
    """What needs an operator's attention now, worst first."""
    from aitp_cp_client.commands.insight import attention

    attention(as_json=as_json)


@trust.command("edges", epilog=LEGEND)
def trust_edges(
    aid: Annotated[
        str | None, typer.Argument(metavar="AID", help="The agent; without it, the agents that most others trust.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Revoked and expired tokens as well.")] = False,
    min_tokens: Annotated[int, typer.Option(min=1, max=1000, help="Only edges of at least this many tokens.")] = 1,
    grant: Annotated[str | None, typer.Option(help="Only tokens that grant this capability.")] = None,
    as_json: Json = False,
) -> None:
    """Who trusts an agent and whom it trusts, by live tokens, and how far a leak of its key reaches."""
    from aitp_cp_client.commands.insight import edges

    edges(aid, live_only=not everything, min_tokens=min_tokens, grant=grant, as_json=as_json)


def whoami(as_json: Json = False) -> None:
    """Who the key belongs to, and what it may do."""
    from aitp_cp_client.commands.keys import who_am_i

    who_am_i(as_json=as_json)


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Any id, or the beginning of an agent's name.")],
    as_json: Json = False,
) -> None:
    """Find whatever has an id, and agents by name or by the ends of their AID."""
    from aitp_cp_client.commands.search import search

    search(text, as_json=as_json)


@revocations.command("list", epilog=LEGEND)
def revocations_list(limit: Limit = 100, as_json: Json = False) -> None:
    """List the entries of the deny list, newest first."""
    from aitp_cp_client.commands.revocations import list_entries

    list_entries(limit, as_json=as_json)


@revocations.command("verify", epilog=LEGEND)
def revocations_verify(
    pin: Annotated[str | None, typer.Option(metavar="AID", help="The expected AID of the control plane.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch the signed list and verify it as a peer would; exits 6 when it does not verify."""
    from aitp_cp_client.commands.revocations import verify

    verify(pin, as_json=as_json)


@events.command("tail", epilog=LEGEND)
def events_tail(
    type: Annotated[str | None, typer.Option(help="Event type, or its beginning: `handshake.*`.")] = None,
    aid: Annotated[str | None, typer.Option(help="Sender or receiver.")] = None,
    run: Annotated[str | None, typer.Option(help="One run.")] = None,
    proof: WithProof = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Start after this position in the log. Default: recent events.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line, for scripts.")] = False,
) -> None:
    """Print events as they happen, until Ctrl-C. Reconnects without gaps or duplicates."""
    from aitp_cp_client.commands.events import tail

    tail(after, as_json=as_json, type=type, aid=aid, run_id=run, proof=proof)


@events.command("list", epilog=LEGEND)
def events_list(
    type: Annotated[str | None, typer.Option(help="Event type, or its beginning: `handshake.*`.")] = None,
    aid: Annotated[str | None, typer.Option(help="Either side.")] = None,
    proof: WithProof = None,
    reported_by: ReportedBy = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Events, newest first."""
    from aitp_cp_client.commands.events import list_events

    list_events(limit, as_json=as_json, type=type, aid=aid, proof=proof, reported_by=reported_by)


@events.command("export", epilog=LEGEND)
@as_options(EventOptions)
def events_export(options: EventOptions) -> None:
    """Export the event log in order, one JSON document per line."""
    from aitp_cp_client.commands.events import export

    export(
        options.after,
        options.output,
        type=options.type,
        aid=options.aid,
        session_id=options.session,
        run_id=options.run,
        since=options.since,
        until=options.until,
    )


@sessions.command("list", epilog=LEGEND)
@as_options(SessionOptions)
def sessions_list(options: SessionOptions) -> None:
    """List handshakes, newest first."""
    from aitp_cp_client.commands.sessions import list_sessions

    list_sessions(options.limit, as_json=options.as_json, **options.filters)


@sessions.command("show", epilog=LEGEND)
def sessions_show(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")], as_json: Json = False
) -> None:
    """Show a handshake with its events, oldest first."""
    from aitp_cp_client.commands.sessions import show

    show(session, as_json=as_json)


@tcts.command("list", epilog=LEGEND)
@as_options(TctOptions)
def tcts_list(options: TctOptions) -> None:
    """Tokens, newest issued first; `verified` says that the issuer signed it, not that the subject took part."""
    from aitp_cp_client.commands.tokens import list_tcts

    list_tcts(options.limit, as_json=options.as_json, **options.filters)


@delegations.command("list", epilog=LEGEND)
def delegations_list(
    verdict: WithVerdict = None,
    delegator: Annotated[str | None, typer.Option(metavar="AID", help="Delegations by this agent.")] = None,
    delegatee: Annotated[str | None, typer.Option(metavar="AID", help="Delegations to this agent.")] = None,
    active: Active = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Delegations, newest issued first."""
    from aitp_cp_client.commands.tokens import list_delegations

    list_delegations(limit, as_json=as_json, verdict=verdict, delegator=delegator, delegatee=delegatee, active=active)


@webhooks.command("list", epilog=LEGEND)
def webhooks_list(limit: Limit = 100, as_json: Json = False) -> None:
    """List webhooks, oldest first."""
    from aitp_cp_client.commands.webhooks import list_webhooks

    list_webhooks(limit, as_json=as_json)


@webhooks.command("test", epilog=LEGEND)
def webhooks_test(webhook: WebhookId, as_json: Json = False) -> None:
    """Send a delivery of type webhook.test; `webhooks deliveries` shows the outcome."""
    from aitp_cp_client.commands.webhooks import test

    test(webhook, as_json=as_json)


@webhooks.command("deliveries", epilog=LEGEND)
@as_options(webhook_options.DeliveryOptions)
def webhooks_deliveries(options: webhook_options.DeliveryOptions) -> None:
    """List the deliveries of a webhook, newest first."""
    from aitp_cp_client.commands.webhooks import deliveries

    deliveries(options)


@webhooks.command("redeliver", epilog=LEGEND)
def webhooks_redeliver(
    webhook: WebhookId,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")],
    as_json: Json = False,
) -> None:
    """Send a delivery again, byte for byte."""
    from aitp_cp_client.commands.webhooks import redeliver

    redeliver(webhook, delivery, as_json=as_json)


@audit.command("list", epilog=LEGEND)
@as_options(AuditOptions)
def audit_list(options: AuditOptions) -> None:
    """List the admin audit, newest first."""
    from aitp_cp_client.commands.audit import list_entries

    list_entries(options.limit, as_json=options.as_json, **options.filters)


@audit.command("export", epilog=LEGEND)
@as_options(AuditExportOptions)
def audit_export(options: AuditExportOptions) -> None:
    """Export the admin audit, newest first; each export is an entry of the audit."""
    from aitp_cp_client.commands.audit import export

    export(options.format, options.output, **options.filters)

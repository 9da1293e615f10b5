"""The options of the commands that queue many deliveries."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import typer

from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.grouping import Moment, as_options

Json = Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would be queued, and queue nothing.")]
WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")]


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """Options of `webhooks deliveries`."""

    webhook: WebhookId
    status: Annotated[
        Literal["pending", "in_flight", "delivered", "failed"] | None,
        typer.Option(help="Only deliveries with this status."),
    ] = None
    type: Annotated[str | None, typer.Option(help="Only this event type.")] = None
    code: Annotated[
        str | None, typer.Option(help="Only this last status code: 503, 5xx, or none where nobody answered.")
    ] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100
    as_json: Json = False


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Options of `webhooks recover` and `webhooks replay-missing`."""

    webhook: WebhookId
    since: Annotated[datetime, Moment]
    until: Annotated[datetime | None, Moment] = None
    dry_run: DryRun = False
    as_json: Json = False


@dataclass(frozen=True, slots=True)
class ResendOptions:
    """Options of `webhooks resend`."""

    webhook: WebhookId
    deliveries: Annotated[
        list[str] | None, typer.Argument(metavar="DELIVERY", help="These deliveries, and no other options.")
    ] = None
    status: Annotated[Literal["delivered", "failed"] | None, typer.Option(help="All deliveries with this status.")] = (
        None
    )
    type: Annotated[str | None, typer.Option(help="All of this event type.")] = None
    code: Annotated[
        str | None, typer.Option(help="All with this last status code: 503, 5xx, or none where nobody answered.")
    ] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    dry_run: DryRun = False
    as_json: Json = False


def add_to(webhooks: typer.Typer) -> None:
    """Add them to the commands of webhooks."""
    for name, command in (
        ("attempts", attempts),
        ("health", health),
        ("recover", recover),
        ("replay-missing", replay_missing),
        ("resend", resend),
    ):
        webhooks.command(name, epilog=LEGEND)(command)


def attempts(
    webhook: WebhookId,
    delivery: DeliveryId,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100,
    as_json: Json = False,
) -> None:
    """List the attempts of a delivery, newest first; --json shows the whole responses."""
    from aitp_cp_client.commands.webhooks import attempts

    attempts(webhook, delivery, limit, as_json=as_json)


def health(webhook: WebhookId, as_json: Json = False) -> None:
    """Show what became of a webhook's deliveries lately, and what waits."""
    from aitp_cp_client.commands.webhooks import health

    health(webhook, as_json=as_json)


@as_options(SpanOptions)
def recover(options: SpanOptions) -> None:
    """Send the failed deliveries of a span of time again."""
    from aitp_cp_client.commands.webhooks import recover

    recover(options)


@as_options(SpanOptions)
def replay_missing(options: SpanOptions) -> None:
    """Send the events of a span of time that have no delivery to the webhook."""
    from aitp_cp_client.commands.webhooks import replay_missing

    replay_missing(options)


@as_options(ResendOptions)
def resend(options: ResendOptions) -> None:
    """Send finished deliveries again, byte for byte: those named, or all that match."""
    from aitp_cp_client.commands.webhooks import resend

    resend(options)

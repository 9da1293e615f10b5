"""Options of a command as one dataclass, and how options are read."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from aitp_cp_client.audit import AuditFilter
    from aitp_cp_client.sessions import SessionFilter
    from aitp_cp_client.tokens import TctFilter

Options = TypeVar("Options")


def read_moment(text: str) -> datetime:
    """Parse a time as the API does; raise `ValueError`, which typer shows."""
    from aitp_cp_client.wire import moments  # here, because --help does not need it

    moment = moments.from_text(text)
    if moment is None:
        raise ValueError(text)
    return moment


_DURATION = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_duration(text: str) -> timedelta:
    """Read a duration such as 90d, 12h, 30m or 5s; raises `ValueError`, which the option shows."""
    duration = _DURATION.fullmatch(text)
    if duration is None:
        raise ValueError(f"{text!r} is not a duration such as 90d, 12h, 30m or 5s")
    return timedelta(seconds=int(duration["count"]) * _SECONDS[duration["unit"]])


def read_expiry(text: str) -> datetime:
    """Read a time, or a duration from now; raises `ValueError`, which the option shows."""
    try:
        return datetime.now(UTC) + read_duration(text) if _DURATION.fullmatch(text) else read_moment(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is neither a time nor a duration such as 90d") from None


def read_actor(text: str) -> str:
    """Read the actor of an environment key, as the audit shows it; raises `ValueError`, which the option shows."""
    if not re.fullmatch(r"apikey:[0-9a-f]{16}", text):
        raise ValueError(f"{text!r} is not apikey: and 16 hex digits, as the audit shows an environment key")
    return text


Moment = typer.Option(metavar="TIME", parser=read_moment, help="ISO-8601, inclusive; without an offset it is UTC.")
WithVerdict = Annotated[
    Literal["none", "unverifiable", "invalid", "verified"] | None, typer.Option(help="What the signature is worth.")
]
Active = Annotated[bool, typer.Option("--active", help="Neither revoked nor expired.")]


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Options of `agents list`."""

    capability: Annotated[str | None, typer.Option(help="Only agents that offer this capability.")] = None
    name: Annotated[str | None, typer.Option(help="Only this exact display name.")] = None
    find: Annotated[str | None, typer.Option(help="Beginning of a name, ends of an AID, or a capability.")] = None
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None
    status: Annotated[
        Literal["active", "expired", "deregistered", "contained", "all"],
        typer.Option(help="Only agents with this status."),
    ] = "active"
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")] = False


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which entries of the audit."""

    actor: Annotated[str | None, typer.Option(help="Who: key:…, user:…, apikey:…")] = None
    action: Annotated[str | None, typer.Option(help="What was done, such as agent.contain.")] = None
    target: Annotated[str | None, typer.Option(help="To what: an AID or an id.")] = None
    request: Annotated[str | None, typer.Option(help="The request it was done in.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None

    @property
    def filters(self) -> "AuditFilter":
        return {
            "actor": self.actor,
            "action": self.action,
            "target": self.target,
            "request_id": self.request,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class AuditOptions(AuditFilters):
    """Options of `audit list`."""

    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")] = False


@dataclass(frozen=True, slots=True)
class AuditExportOptions(AuditFilters):
    """Options of `audit export`."""

    format: Annotated[Literal["json", "jsonl", "csv"], typer.Option(help="How entries are written.")] = "json"
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, which is replaced only when complete.")
    ] = None


@dataclass(frozen=True, slots=True)
class EventOptions:
    """Options of `events export`."""

    type: Annotated[str | None, typer.Option(help="Event type, or its beginning: `handshake.*`.")] = None
    aid: Annotated[str | None, typer.Option(help="Sender or receiver.")] = None
    session: Annotated[str | None, typer.Option(help="One session.")] = None
    run: Annotated[str | None, typer.Option(help="One run.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    after: Annotated[int, typer.Option(min=0, help="Start after this position in the log.")] = 0
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, which is replaced only when complete.")
    ] = None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Options of `sessions list`."""

    status: Annotated[
        Literal["started", "failed", "complete"] | None, typer.Option(help="Only sessions with this status.")
    ] = None
    aid: Annotated[str | None, typer.Option(help="Either side.")] = None
    run: Annotated[str | None, typer.Option(help="One run.")] = None
    boundary: Annotated[str | None, typer.Option(help="Only this exact boundary.")] = None
    error: Annotated[str | None, typer.Option(help="Only handshakes that failed with this exact error.")] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")] = False

    @property
    def filters(self) -> "SessionFilter":
        return {
            "status": self.status,
            "aid": self.aid,
            "run_id": self.run,
            "boundary": self.boundary,
            "error": self.error,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class TctOptions:
    """Options of `tcts list`."""

    verdict: WithVerdict = None
    issuer: Annotated[str | None, typer.Option(metavar="AID", help="Tokens that this agent issued.")] = None
    subject: Annotated[str | None, typer.Option(metavar="AID", help="Tokens that this agent holds.")] = None
    active: Active = False
    expires_before: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME", parser=read_expiry, help="Active ones that end until then (or 7d), the next first."
        ),
    ] = None
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")] = False

    @property
    def filters(self) -> "TctFilter":
        return {
            "verdict": self.verdict,
            "issuer": self.issuer,
            "subject": self.subject,
            "active": self.active,
            "expires_before": self.expires_before,
        }


def as_options(shape: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Decorate a command that takes the options of a dataclass as one argument."""

    def grouped(command: Callable[[Options], None]) -> Callable[..., None]:
        def call(**values: object) -> None:
            command(shape(**values))

        call.__doc__ = command.__doc__
        call.__annotations__ = get_type_hints(shape, include_extras=True)
        call.__dict__["__signature__"] = inspect.signature(shape)
        return call

    return grouped

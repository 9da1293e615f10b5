"""The options of a run, the outcomes of checks, and the report."""

from dataclasses import dataclass
from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "skipped"]
Environment = Literal["production", "development"]

SECTIONS = {
    "2": "Every response",
    "3": "Who may call what",
    "4": "Rate limiting",
    "5": "Idempotency",
    "6": "Health",
    "7": "Identity",
    "8": "Registry",
    "9": "Events",
    "10": "Sessions, TCTs, delegations, dashboard",
    "11": "Revocation",
    "12": "Webhooks",
    "13": "Trust store and admin audit",
    "14": "Metrics",
    "18": "Keys and scopes",
    "19": "Verdicts on reported tokens",
    "20": "Agents report for themselves",
    "21": "Containment",
    "22": "What operators look at",
    "25": "More than one machine",
}


class Broken(Exception):
    """The deployment breaks a sentence of the contract; the message says how."""


class Skipped(Exception):
    """The check could not run; the message says why."""


class Unreachable(Exception):
    """Nothing answers at the URL."""


class KeyRefused(Exception):
    """The deployment refuses the API key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Facts about the deployment. Checks that need a missing one are skipped."""

    url: str
    api_key: str | None = None
    environment: Environment | None = None
    origin: str | None = None  # a browser origin that CORS_ORIGIN allows
    webhook_host: str | None = None  # a host that the deployment may send webhooks to
    receiver_host: str | None = None  # an address of this machine that the deployment may send webhooks to
    patience_secs: float = 300.0  # total time to wait for rate limits
    revoke: bool = True  # whether to add permanent entries to the deny list
    metrics: bool = True  # whether the metrics can be read at this URL; a proxy should deny them


class Result(msgspec.Struct, frozen=True):
    """The outcome of a check; `detail` says why it did not pass."""

    section: str
    name: str
    sentence: str
    extension: bool
    outcome: Outcome
    detail: str | None
    ms: int


class Report(msgspec.Struct, frozen=True):
    """The results of a run; `left` lists what could not be deleted."""

    url: str
    started_at: str
    run: str
    results: list[Result]
    left: list[str]

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.results)

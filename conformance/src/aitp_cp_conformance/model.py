"""What an operator tells about a deployment, how a check ends, and what a run comes to."""

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
}


class Broken(Exception):
    """The deployment does not keep a sentence of the contract; says how."""


class Skipped(Exception):
    """The sentence could not be looked at; says why."""


class Unreachable(Exception):
    """Nothing answers at the URL."""


class KeyRefused(Exception):
    """The API key opens nothing, so nothing behind the gate can be checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator tells about the deployment; what is not told is skipped, not guessed."""

    url: str
    api_key: str | None = None
    environment: Environment | None = None
    origin: str | None = None  # a browser origin that CORS_ORIGIN allows
    webhook_host: str | None = None  # one that the deployment may send webhooks to
    receiver_host: str | None = None  # an address of this machine that the deployment may send webhooks to
    patience_secs: float = 300.0  # in all, spent waiting for rate limits
    revoke: bool = True  # whether entries may be added to the deny list, where they stay


class Result(msgspec.Struct, frozen=True):
    """How one check ended; `detail` says why it did not pass."""

    section: str
    name: str
    sentence: str
    extension: bool
    outcome: Outcome
    detail: str | None
    ms: int


class Report(msgspec.Struct, frozen=True):
    """A whole run; `left` names what could not be taken away again."""

    url: str
    started_at: str
    run: str
    results: list[Result]
    left: list[str]

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.results)

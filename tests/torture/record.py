"""What the clients of one run did and were told: the side of the story that the database is held against."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from uuid import UUID

Fault = Literal["wrong", "lost", "duplicated", "out of order"]
FAULTS: tuple[Fault, ...] = ("wrong", "lost", "duplicated", "out of order")


class Finding(NamedTuple):
    """One thing that must not be: the kind of operation it belongs to, what is the matter, and which item it is."""

    kind: str
    fault: Fault
    item: str


@dataclass
class Batch:
    """Events reported together; `began` and `told` are monotonic times, `told` is None while nobody knows.

    `reporter` is the agent that reported them itself, and `proof` how the control plane knows who it was.
    """

    worker: str
    number: int
    events: list[dict[str, Any]]
    keyed: bool
    began: float
    unsure: int = 0
    told: float | None = None
    inserted: list[int] = field(default_factory=list)
    reporter: str | None = None
    proof: str = "shared-key"

    @property
    def name(self) -> str:
        return f"{self.worker}-{self.number}"


@dataclass
class Enrolled:
    """An agent: how many tokens were surely spent on it, how many perhaps, and whether it was made to leave."""

    aid: str
    told: bool = False
    spent: int = 0
    unsure: int = 0
    leaving: Literal["no", "asked", "told"] = "no"


@dataclass
class Revoked:
    """A token on the deny list; each answer is the stored entry as one client saw it."""

    jti: str
    asked: set[str | None] = field(default_factory=set)
    told_at: float | None = None  # by the clock on the wall, as lists are dated
    responses: set[tuple[str, str | None]] = field(default_factory=set)

    @property
    def signable(self) -> bool:
        return UUID(self.jti).version == 4


@dataclass
class Hook:
    """A webhook, known by its address; from `born` to `changing` its subscription is certain."""

    url: str
    events: list[str]
    keyed: bool
    asked: int = 0
    ids: set[str] = field(default_factory=set)
    born: float | None = None
    changing: float | None = None
    patches: int = 0
    unsure_patches: int = 0
    leaving: Literal["no", "asked", "told"] = "no"


@dataclass
class Anchor:
    """A trust anchor, created under one Idempotency-Key by two clients at once."""

    issuer: str
    ids: set[str] = field(default_factory=set)
    told: bool = False


@dataclass
class Bulk:
    """A bulk revocation: the ids that nobody else revokes."""

    name: str
    fresh: list[str]
    told: bool = False


class Token(NamedTuple):
    """A signed token, by what its issuer says; `verdict` is `forged` if its signature is damaged."""

    jti: str
    issuer: str
    subject: str
    verdict: Literal["verified", "forged"]


@dataclass
class Suspect:
    """An agent that is contained: the ids of its tokens, as they were reported before and during the containment.

    `confirming` are its peers that have shown, at some time, that they hold a list; nobody else may count as confirmed.
    """

    aid: str
    before: list[str] = field(default_factory=list)
    claimed_later: list[str] = field(default_factory=list)
    proven_later: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    contained: Literal["no", "asked", "told"] = "no"
    released: Literal["no", "asked", "told"] = "no"
    confirming: set[str] = field(default_factory=set)
    confirmed: bool = False  # all of them have, with this containment in their list

    @property
    def jtis(self) -> set[str]:
        return {*self.before, *self.claimed_later, *self.proven_later}


@dataclass
class Key:
    """One API key; `secret` is None if the answer that showed it was lost.

    `refused_from` is the monotonic time from which the key must not be accepted by a replica that knows of its end.
    """

    id: str
    secret: str | None = None
    replaced: bool = False
    revoked: Literal["no", "asked", "told"] = "no"
    refused_from: float | None = None


@dataclass
class Family:
    """A key and its successors, oldest first; `name` is that of no other. `actor` created it with a form."""

    name: str
    keys: list[Key] = field(default_factory=list)
    actor: str | None = None
    told: bool = False


@dataclass
class Session:
    """A session of a browser: `cookie` names it, and it ends with its key at the latest."""

    cookie: str
    actor: str
    key: Key
    signed_out: Literal["no", "asked", "told"] = "no"
    refused_from: float | None = None


@dataclass
class Visitor:
    """Somebody who signs in with one key: how often that was surely, and how often perhaps."""

    logins: int = 0
    unsure: int = 0
    logouts: int = 0
    unsure_logouts: int = 0


@dataclass
class Reading:
    """What one reader of the log was given: positions, and half of each event's id."""

    name: str
    wanted: dict[str, str] = field(default_factory=dict)
    from_the_start: bool = False
    seqs: "array[int]" = field(default_factory=lambda: array("q"))
    ids: "array[int]" = field(default_factory=lambda: array("Q"))
    endings: Counter[str] = field(default_factory=Counter)

    def take(self, event: dict[str, Any]) -> None:
        self.seqs.append(event["seq"])
        self.ids.append(half(event["id"]))

    @property
    def last(self) -> int | None:
        return self.seqs[-1] if self.seqs else (0 if self.from_the_start else None)


@dataclass
class Received:
    """What a receiver got of one delivery."""

    posts: int = 0
    accepted: int = 0
    bodies: set[str] = field(default_factory=set)


@dataclass
class Record:
    seed: int
    batches: list[Batch] = field(default_factory=list)
    agents: dict[str, Enrolled] = field(default_factory=dict)
    revocations: dict[str, Revoked] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    bulks: list[Bulk] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)  # by the SHA-256 of their text
    suspects: dict[str, Suspect] = field(default_factory=dict)
    families: dict[str, Family] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    visitors: dict[str, Visitor] = field(default_factory=dict)
    agent_tokens: int = 0
    readings: list[Reading] = field(default_factory=list)
    deliveries: dict[str, Received] = field(default_factory=dict)
    lists: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    complaints: list[Finding] = field(default_factory=list)

    @property
    def listable(self) -> set[str]:
        """The ids that a list may hold."""
        return {*self.revocations, *(jti for suspect in self.suspects.values() for jti in suspect.jtis)}

    def complain(self, kind: str, fault: Fault, item: str) -> None:
        """Note at once what no later look at the database would show."""
        self.complaints.append(Finding(kind, fault, item))


def half(event_id: str) -> int:
    """Enough of an id to tell two events apart."""
    return UUID(event_id).int & (2**64 - 1)

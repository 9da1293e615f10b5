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
    """Events reported together; `began` and `told` are monotonic times, `told` is None while nobody knows."""

    worker: str
    number: int
    events: list[dict[str, Any]]
    keyed: bool
    began: float
    unsure: int = 0
    told: float | None = None
    inserted: list[int] = field(default_factory=list)

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
    answers: set[tuple[str, str | None]] = field(default_factory=set)

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
    readings: list[Reading] = field(default_factory=list)
    deliveries: dict[str, Received] = field(default_factory=dict)
    lists: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    complaints: list[Finding] = field(default_factory=list)

    def complain(self, kind: str, fault: Fault, item: str) -> None:
        """Note at once what no later look at the database would show."""
        self.complaints.append(Finding(kind, fault, item))


def half(event_id: str) -> int:
    """Enough of an id to tell two events apart."""
    return UUID(event_id).int & (2**64 - 1)

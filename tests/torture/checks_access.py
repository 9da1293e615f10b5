"""API keys and sessions of browsers: each made and ended once, and let in exactly as long as it may be."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from tests.torture.checks_admin import audit_of, counted
from tests.torture.record import Family, Finding, Key, Record
from tests.torture.truth import Row, Truth

Counts = Counter[tuple[str, str]]


def check_keys(record: Record, truth: Truth) -> Iterator[Finding]:
    """A creation and each rotation made one key; a key is revoked if and only if somebody was told so, or not told."""
    audit = audit_of(truth)
    events: Counts = Counter(
        (row["type"], row["payload"]["id"]) for row in truth.events if row["type"].startswith("apikey.")
    )
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in truth.api_keys:
        rows[row["name"]].append(row)
    for family in record.families.values():
        yield from _check_family(family, rows.pop(family.name, []), audit, events)
    for name in rows:
        yield Finding("api keys", "wrong", f"{name} was never asked for")
    there = {row["id"] for row in truth.api_keys}
    for kind, id in events:
        if id not in there:
            yield Finding("api keys", "wrong", f"{kind} of {id}, which is not there")


def _check_family(family: Family, rows: list[Row], audit: Counts, events: Counts) -> Iterator[Finding]:
    made = {row["id"]: row for row in rows}
    least = int(family.told) if family.actor else len(family.keys)
    most = max(least, 1)  # nobody knows whether the first was made
    yield from counted("api keys", family.name, len(made), least, most)
    for key in family.keys:
        if key.id not in made:
            yield Finding("api keys", "lost", key.id)
        else:
            yield from _check_end(key, made[key.id])
    for row in rows:
        id, is_first = row["id"], row["id"] == row["family"]
        if family.actor is not None and row["created_by"] != family.actor:
            yield Finding("api keys", "wrong", f"{id} was made by {family.actor}, not by {row['created_by']}")
        yield from counted("audit", f"key.create of {id}", audit["key.create", id], is_first)
        yield from counted("audit", f"key.rotate of {id}", audit["key.rotate", id], not is_first)
        yield from counted("audit", f"key.revoke of {id}", audit["key.revoke", id], row["revoked"])
        yield from counted("api keys", f"apikey.created of {id}", events["apikey.created", id], is_first)
        is_replaced = row["replaced_by"] is not None
        yield from counted("api keys", f"apikey.rotated of {id}", events["apikey.rotated", id], is_replaced)
        yield from counted("api keys", f"apikey.revoked of {id}", events["apikey.revoked", id], row["revoked"])


def _check_end(key: Key, row: Row) -> Iterator[Finding]:
    if key.revoked == "told" and not row["revoked"]:
        yield Finding("api keys", "lost", f"{key.id} was revoked and is not")
    if key.revoked == "no" and row["revoked"]:
        yield Finding("api keys", "wrong", f"{key.id} was never revoked and is")
    if key.replaced != (row["replaced_by"] is not None):
        yield Finding("api keys", "wrong", f"{key.id} should be replaced: {key.replaced}")


def check_sessions_of_browsers(record: Record, truth: Truth) -> Iterator[Finding]:
    rows = {row["digest"]: row for row in truth.sign_ins}
    for session in record.sessions:
        row = rows.get(hashlib.sha256(session.cookie.encode()).hexdigest())
        if row is None or row["subject"] != session.actor:
            yield Finding("console sessions", "lost", f"a session of {session.actor}: {row}")
            continue
        is_out = row["ended_by"] == "logout"
        if is_out != (session.signed_out == "told") and session.signed_out != "asked":
            yield Finding("console sessions", "wrong", f"a session of {session.actor} ended by {row['ended_by']}")
    audit = audit_of(truth)
    subjects = Counter(row["subject"] for row in truth.sign_ins)
    left = Counter(row["subject"] for row in truth.sign_ins if row["ended_by"] == "logout")
    for actor, visitor in record.visitors.items():
        most = visitor.logins + visitor.unsure
        yield from counted("console sessions", f"sessions of {actor}", subjects[actor], visitor.logins, most)
        yield from counted("audit", f"console.login of {actor}", audit["console.login", actor], subjects[actor])
        yield from counted("audit", f"console.logout of {actor}", audit["console.logout", actor], left[actor])
    for actor in subjects.keys() - record.visitors.keys():
        yield Finding("console sessions", "wrong", f"{actor} never signed in")


def check_doors(record: Record, truth: Truth) -> Iterator[Finding]:
    """Once all is calm, each replica lets in whoever may come in, and nobody else."""
    for row in truth.doors:
        if row["accepted"] and not row["valid"]:
            yield Finding(row["kind"], "wrong", f"{row['item']} has ended, and replica {row['replica']} accepts it")
        if row["valid"] and not row["accepted"]:
            yield Finding(row["kind"], "lost", f"{row['item']} is valid, and replica {row['replica']} refuses it")


Check = Callable[[Record, Truth], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (check_keys, check_sessions_of_browsers, check_doors)

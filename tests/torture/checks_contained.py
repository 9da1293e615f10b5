"""Containments: each done whole or not at all, once, and nothing of the agent is left."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tests.torture.checks_admin import audit_of, counted, own_events
from tests.torture.checks_log import key_of
from tests.torture.record import Finding, Record, Suspect
from tests.torture.truth import Row, Truth

Counts = Counter[tuple[str, str]]
REASON = "agent contained"


def check_containments(record: Record, truth: Truth) -> Iterator[Finding]:
    audit, events = audit_of(truth), own_events(truth)
    rows: dict[str, list[Row]] = {}
    for row in truth.containments:
        rows.setdefault(row["aid"], []).append(row)
    entries = {row["jti"]: row["reason"] for row in truth.entries}
    stored = _stored(record, truth)
    for suspect in record.suspects.values():
        found = rows.pop(suspect.aid, [])
        yield from counted(
            "containments", suspect.aid, len(found), suspect.contained == "told", suspect.contained != "no"
        )
        yield from _check_act(suspect, found, audit, events)
        yield from _check_entries(suspect, found, entries, stored, events)
    for aid in rows:
        yield Finding("containments", "wrong", f"{aid} was never to be contained")


def check_reach(record: Record, truth: Truth) -> Iterator[Finding]:
    """Whoever has shown that it holds the containment is confirmed, and nobody else."""
    reach = {row["id"]: row for row in truth.reach}
    for suspect in record.suspects.values():
        for id in suspect.ids & reach.keys():
            row, confirming = reach[id], suspect.confirming
            confirmed = row["exposedPeers"]["confirmed"]
            current = {client["client"] for client in row["clients"] if client["holds"] == "current"}
            if row["listedAt"] is None or (suspect.confirmed and not confirming & current):
                yield Finding("containments", "lost", f"nobody of {confirming} is shown to know of {suspect.aid}")
            if confirmed > len(confirming):
                yield Finding("containments", "wrong", f"{confirmed} of {confirming} count as knowing of {suspect.aid}")


def _stored(record: Record, truth: Truth) -> set[str]:
    """The ids of the tokens that the log tells of."""
    shown = [row["payload"].get("tct") for row in truth.events if key_of(row) is not None]
    return {
        record.tokens[tct["token"]["sha256"]].jti if "token" in tct else tct["jti"] for tct in shown if tct is not None
    }


def _check_act(suspect: Suspect, rows: list[Row], audit: Counts, events: Counts) -> Iterator[Finding]:
    aid, is_there, is_released = suspect.aid, bool(rows), any(row["released"] for row in rows)
    if suspect.ids and suspect.ids != {row["id"] for row in rows}:
        yield Finding("containments", "lost", f"{suspect.ids} of {aid}: there are {rows}")
    if suspect.released == "told" and not is_released:
        yield Finding("containments", "lost", f"{aid} was released and is contained")
    if suspect.released == "no" and is_released:
        yield Finding("containments", "wrong", f"{aid} was never released")
    yield from counted("containments", f"agent.contained of {aid}", events["agent.contained", aid], is_there)
    yield from counted("containments", f"agent.released of {aid}", events["agent.released", aid], is_released)
    yield from counted("audit", f"agent.contain of {aid}", audit["agent.contain", aid], is_there)
    yield from counted("audit", f"agent.release of {aid}", audit["agent.release", aid], is_released)


def _check_entries(
    suspect: Suspect, rows: list[Row], entries: dict[str, str | None], stored: set[str], events: Counts
) -> Iterator[Finding]:
    """Every token from before, and every later one that its issuer has signed; a later claim alone lists nothing."""
    claimed, proven = (stored & set(jtis) for jtis in (suspect.claimed_later, suspect.proven_later))
    expected = (stored & set(suspect.before)) | proven if rows else set()
    for jti in expected - entries.keys():
        yield Finding("containments", "lost", f"{jti} of {suspect.aid} is not revoked")
    for jti in (suspect.jtis & entries.keys()) - expected:
        yield Finding("containments", "wrong", f"{jti} of {suspect.aid} is revoked")
    for jti in suspect.jtis:
        yield from counted("containments", f"tct.revoked of {jti}", events["tct.revoked", jti], jti in entries)
        if entries.get(jti, REASON) != REASON:
            yield Finding("containments", "wrong", f"{jti} is revoked because of {entries[jti]!r}")
    for row in rows:
        counts = (row["claimed_only"], row["later_listed"], row["remaining"], row["pending"])
        if counts != (len(claimed), len(proven), 0, False):
            yield Finding("containments", "wrong", f"{suspect.aid} counts {counts} of {len(claimed)}, {len(proven)}")


Check = Callable[[Record, Truth], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (check_containments, check_reach)

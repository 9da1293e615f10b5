"""What administrators and agents did: registrations, the deny list, webhooks, keyed posts, and the audit of it all."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tests.torture.checks_log import key_of
from tests.torture.readers import problems_of
from tests.torture.record import Enrolled, Finding, Hook, Record, Revoked
from tests.torture.truth import Row, Truth


def audit_of(truth: Truth) -> Counter[tuple[str, str]]:
    """What is audited, by action and target; a bulk revocation names each token of its own."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in truth.audit:
        details = row["details"] or {}
        counts.update((row["action"], target) for target in details.get("jtis", [row["target_id"]]))
    return counts


def own_events(truth: Truth) -> Counter[tuple[str, str]]:
    """The control plane's own events by what they are about: an agent, or a revoked token."""
    own = [row for row in truth.events if row["source"] == "cp"]
    return Counter((row["type"], row["payload"].get("jti") or row["aid_a"]) for row in own)


def check_agents(record: Record, truth: Truth) -> Iterator[Finding]:
    audit, events = audit_of(truth), own_events(truth)
    released = {row["aid"] for row in truth.containments if row["released"]}
    found = {row["aid"]: row for row in truth.agents}
    for agent in record.agents.values():
        row = found.pop(agent.aid, None)
        if row is None and agent.told:
            yield Finding("registrations", "lost", agent.aid)
        if row is not None and agent.aid in released and row["status"] == "deregistered":
            row = {**row, "status": "released"}  # which is no deregistration
        yield from _check_agent(agent, row, audit, events)
    for aid in found:
        yield Finding("registrations", "wrong", f"{aid} never enrolled")


def _check_agent(
    agent: Enrolled, row: Row | None, audit: Counter[tuple[str, str]], events: Counter[tuple[str, str]]
) -> Iterator[Finding]:
    """An agent is there with one event and an audit row for each token; without its row there is neither."""
    there = row is not None
    yield from counted(
        "registrations", f"agent.registered of {agent.aid}", events["agent.registered", agent.aid], there
    )
    spent = audit["agent.register", agent.aid]
    least, most = max(agent.spent, int(there)), agent.spent + agent.unsure if there else 0
    yield from counted("audit", f"agent.register of {agent.aid}", spent, least, most)
    left = there and row is not None and row["status"] == "deregistered"
    if agent.leaving == "told" and not left:
        yield Finding("deregistrations", "lost", agent.aid)
    if agent.leaving == "no" and left:
        yield Finding("deregistrations", "wrong", f"{agent.aid} was never told to leave")
    event = events["agent.deregistered", agent.aid]
    yield from counted("deregistrations", f"agent.deregistered of {agent.aid}", event, left)
    yield from counted("audit", f"agent.deregister of {agent.aid}", audit["agent.deregister", agent.aid], left)


def check_revocations(record: Record, truth: Truth) -> Iterator[Finding]:
    audit, events = audit_of(truth), own_events(truth)
    suspected = {jti for suspect in record.suspects.values() for jti in suspect.jtis}
    found = {row["jti"]: row for row in truth.entries if row["jti"] not in suspected}
    for bulk in record.bulks:
        there = len(found.keys() & set(bulk.fresh))
        if not bulk.told and 0 < there < len(bulk.fresh):
            yield Finding("revocations", "lost", f"{bulk.name} is there by {there} of {len(bulk.fresh)}")
    for entry in record.revocations.values():
        row = found.pop(entry.jti, None)
        yield from _check_revocation(entry, row)
        event, noted = events["tct.revoked", entry.jti], audit["revocation.add", entry.jti]
        yield from counted("revocations", f"tct.revoked of {entry.jti}", event, row is not None)
        yield from counted("audit", f"revocation.add of {entry.jti}", noted, row is not None)
    for jti in found:
        yield Finding("revocations", "wrong", f"{jti} was never asked for")


def _check_revocation(entry: Revoked, row: Row | None) -> Iterator[Finding]:
    if row is None and entry.responses:
        yield Finding("revocations", "lost", entry.jti)
    if len(entry.responses) > 1:
        yield Finding("revocations", "wrong", f"{entry.jti} was answered with different entries: {entry.responses}")
    if row is not None and row["reason"] not in entry.asked:
        yield Finding("revocations", "wrong", f"{entry.jti} has the reason {row['reason']!r}, which nobody gave")
    if row is not None and any(reason != row["reason"] for _, reason in entry.responses):
        yield Finding("revocations", "wrong", f"{entry.jti} was answered with another reason than the stored one")


def check_lists(record: Record, truth: Truth) -> Iterator[Finding]:
    """Every replica's list holds exactly the stored entries that can be signed."""
    stored = {row["jti"] for row in truth.entries}
    expected = {jti for jti in stored if Revoked(jti).signable}
    for number, document in enumerate(truth.lists):
        listed = {entry["jti"] for entry in document["revocation_list"]["entries"]}
        yield from (Finding("signed lists", "wrong", f"replica {number}: {what}") for what in problems_of(document))
        for jti in expected - listed:
            yield Finding("signed lists", "lost", f"{jti} is not in the list of replica {number}")
        for jti in listed - expected:
            yield Finding("signed lists", "wrong", f"{jti} is in the list of replica {number}")


def check_webhooks(record: Record, truth: Truth) -> Iterator[Finding]:
    audit = audit_of(truth)
    rows = {row["id"]: row for row in truth.webhooks}
    by_url = Counter(row["url"] for row in truth.webhooks if row["deleted_at"] is None)
    for hook in record.hooks.values():
        for id in hook.ids:
            yield from _check_webhook(hook, id, rows.get(id), audit)
        # One that was deleted has lost its address: only what was sent again without a key may still be there.
        most = 0 if hook.leaving == "told" else 1
        most += 0 if hook.keyed else max(0, hook.asked - 1)
        if by_url[hook.url] > most:
            yield Finding("webhooks", "duplicated", f"{hook.url}, {by_url[hook.url]} rows")
    for id in rows.keys() | {id for hook in record.hooks.values() for id in hook.ids}:
        gone = id not in rows or rows[id]["deleted_at"] is not None
        yield from counted("audit", f"webhook.create of {id}", audit["webhook.create", id], 1)
        yield from counted("audit", f"webhook.delete of {id}", audit["webhook.delete", id], gone)
        if not gone and rows[id]["url"] not in record.hooks:
            yield Finding("webhooks", "wrong", f"{rows[id]['url']} was never asked for")


def _check_webhook(hook: Hook, id: str, row: Row | None, audit: Counter[tuple[str, str]]) -> Iterator[Finding]:
    gone = row is None or row["deleted_at"] is not None
    if gone and hook.leaving == "no":
        yield Finding("webhooks", "lost", hook.url)
    if not gone and hook.leaving == "told":
        yield Finding("webhooks", "wrong", f"{hook.url} was deleted and is there")
    if row is not None and not gone and row["events"] != hook.events:
        yield Finding("webhooks", "lost", f"{hook.url} was changed to {hook.events} and has {row['events']}")
    most = hook.patches + hook.unsure_patches
    yield from counted("audit", f"webhook.update of {id}", audit["webhook.update", id], hook.patches, most)


def check_anchors(record: Record, truth: Truth) -> Iterator[Finding]:
    audit = audit_of(truth)
    rows = {row["issuer_url"]: row["id"] for row in truth.anchors}
    for anchor in record.anchors.values():
        id = rows.pop(anchor.issuer, None)
        if anchor.told and id is None:
            yield Finding("keyed posts", "lost", anchor.issuer)
        if len(anchor.ids | ({id} if anchor.told else set())) > 1:
            yield Finding("keyed posts", "duplicated", f"{anchor.issuer} was answered with {sorted(anchor.ids)}")
        if id is not None:
            yield from counted("audit", f"trust-anchor.create of {id}", audit["trust-anchor.create", id], 1)
    for issuer in rows:
        yield Finding("keyed posts", "wrong", f"{issuer} was never asked for")


def check_audit(record: Record, truth: Truth) -> Iterator[Finding]:
    """No audit row speaks of what is not there; the other checks look for those that are missing."""
    actors = set(record.visitors)
    there = {
        "agent": {row["aid"] for row in truth.agents} | {row["aid"] for row in truth.containments},
        "revocation": {row["jti"] for row in truth.entries},
        "webhook": {id for hook in record.hooks.values() for id in hook.ids} | {row["id"] for row in truth.webhooks},
        "trust-anchor": {row["id"] for row in truth.anchors},
        "key": {row["id"] for row in truth.api_keys},
        "console": actors,
    }
    for action, target in audit_of(truth):
        if target not in there[action.partition(".")[0]]:
            yield Finding("audit", "wrong", f"{action} of {target}, which is not there")
    reported = {key_of(row) for row in truth.events if row["source"] != "cp"}
    if None in reported:
        yield Finding("events", "wrong", "an event that nobody reported")


def counted(kind: str, what: str, found: int, least: int, most: int | None = None) -> Iterator[Finding]:
    """As many rows as there must be; `most` where nobody knows how often it happened."""
    if found < least:
        yield Finding(kind, "lost", f"{what}: {found} rows for {int(least)}")
    if found > (least if most is None else most):
        yield Finding(kind, "duplicated", f"{what}: {found} rows for {int(least if most is None else most)}")


Check = Callable[[Record, Truth], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (check_agents, check_revocations, check_lists, check_webhooks, check_anchors, check_audit)

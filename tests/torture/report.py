"""The end of a run for people: what was done to it, what was acknowledged, and what is wrong."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.torture.record import FAULTS, Finding, Record
from tests.torture.truth import Truth

SHOWN = 50


def acknowledged(record: Record, truth: Truth) -> dict[str, int]:
    """How many operations of each kind a client was told of, or what a reader was given."""
    agents, hooks, families = record.agents.values(), record.hooks.values(), record.families.values()
    return {
        "events": sum(len(batch.events) for batch in record.batches if batch.told is not None),
        "sessions": len(truth.sessions),
        "tokens": len(truth.tcts),
        "verdicts": sum(row["verdict"] != "none" for row in truth.tcts),
        "delegations": len(truth.delegations),
        "invocations": sum(row["invocations"] for row in truth.counts),
        "registrations": sum(agent.spent for agent in agents),
        "deregistrations": sum(agent.leaving == "told" for agent in agents),
        "revocations": sum(bool(entry.responses) for entry in record.revocations.values()),
        "containments": sum((one.contained == "told") + (one.released == "told") for one in record.suspects.values()),
        "agent tokens": record.agent_tokens,
        "api keys": sum(key.replaced + (key.revoked == "told") + 1 for one in families for key in one.keys),
        "console sessions": len(record.sessions) + sum(one.signed_out == "told" for one in record.sessions),
        "webhooks": sum(len(hook.ids) + hook.patches + (hook.leaving == "told") for hook in hooks),
        "keyed posts": sum(anchor.told for anchor in record.anchors.values()),
        "deliveries": sum(row["status"] == "delivered" for row in truth.deliveries),
        "streams": sum(len(one.seqs) for one in record.readings if one.name != "history"),
        "history": sum(len(one.seqs) for one in record.readings if one.name == "history"),
        "signed lists": record.lists,
        "audit": len(truth.audit),
        "replicas": 0,
    }


def tables(record: Record, truth: Truth, findings: Sequence[Finding]) -> str:
    counts = acknowledged(record, truth)
    found = Counter((finding.kind, finding.fault) for finding in findings)
    operations = [[kind, count, *(found[kind, fault] for fault in FAULTS)] for kind, count in counts.items()]
    total = ["all", sum(counts.values()), *(sum(found[kind, fault] for kind in counts) for fault in FAULTS)]
    faults = [[kind, times] for kind, times in sorted(record.faults.items())]
    return "\n".join(
        [
            *_table(["faults injected", "times"], [*faults, ["all", sum(record.faults.values())]]),
            "",
            *_table(["operations", "acknowledged", *FAULTS], [*operations, total]),
        ]
    )


def items(findings: Sequence[Finding]) -> str:
    """Exactly what is wrong, as far as it can be read."""
    lines = [f"{finding.fault} ({finding.kind}): {finding.item}" for finding in findings[:SHOWN]]
    return "\n".join([*lines, *([f"and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else [])])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]

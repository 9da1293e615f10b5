"""aitp-cp agents contain and release, and aitp-cp containments."""

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aitp_cp_client.commands import exits, reach
from aitp_cp_client.commands.agents import agents
from aitp_cp_client.commands.connection import at_server, run
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, document, listing, note, record, some, stop, table
from aitp_cp_client.commands.parameters import Aid, Json, Limit, as_options, group
from aitp_cp_client.errors import ControlPlaneError
from aitp_cp_client.wire.visible import escaped

if TYPE_CHECKING:
    from aitp_cp_client import Containment, ContainmentRecord, ControlPlane
    from aitp_cp_client.containments import Collateral, ExposedPeer

PLAN_CHANGED = "PLAN_CHANGED"
CONFIRM_CHARS = 4  # of the AID's end, typed again: enough to notice that it is another agent's

COLUMNS: "Columns[ContainmentRecord]" = {
    "id": lambda record: record.id,
    "aid": lambda record: record.aid,
    "contained": lambda record: record.contained_at,
    "released": lambda record: record.released_at,
    "ticket": lambda record: record.ticket,
    "reason": lambda record: record.reason,
}
MORE: "Columns[ContainmentRecord]" = {
    "contained by": lambda record: record.contained_by,
    "include": lambda record: record.include,
    "held delegations": lambda record: record.held_delegations,
    "released by": lambda record: record.released_by,
    "release reason": lambda record: record.release_reason,
    "claims reported since": lambda record: record.claimed_only,
    "tokens listed since": lambda record: record.later_listed,
}
PLAN: "Columns[Containment]" = {
    "tokens issued": lambda plan: plan.tokens.issued,
    "tokens held": lambda plan: plan.tokens.held,
    "not listable": lambda plan: plan.tokens.unlistable,
    "by verdict": lambda plan: [f"{count} {verdict}" for verdict, count in sorted(plan.tokens.by_verdict.items())],
    "ids shared with others": lambda plan: plan.tokens.shared,
    "delegations below": lambda plan: plan.delegations.count,
    "exposed peers": lambda plan: plan.exposed_peer_count,
    "ids to revoke": lambda plan: plan.revocations,
    "of these by the job": lambda plan: plan.remaining,
    "list entries after": lambda plan: plan.list_entries_after,
}
PEERS: "Columns[ExposedPeer]" = {
    "exposed peer": lambda peer: peer.aid,
    "name": lambda peer: peer.display_name,
    "live tokens": lambda peer: peer.live_tokens,
    "last session": lambda peer: peer.last_session_at,
}
COLLATERAL: "Columns[Collateral]" = {
    "stays valid": lambda item: item.kind,
    "jti": lambda item: item.jti,
    "source": lambda item: item.source_jti,
    "of": lambda item: item.aid,
}

Watch = Annotated[bool, typer.Option("--watch", help="Follow the reach until every exposed peer is confirmed.")]
Id = Annotated[str, typer.Argument(metavar="CONTAINMENT", help="The containment's id.")]

containments = group("Agents that were cut off.")


@dataclass(frozen=True, slots=True)
class ContainOptions:
    """Options of `agents contain`."""

    aid: Aid
    reason: Annotated[str, typer.Option(help="For the containment, its event and the audit; not in the public list.")]
    ticket: Annotated[str | None, typer.Option(help="The incident's number.")] = None
    include: Annotated[
        Literal["verified", "all"], typer.Option(help="Only tokens whose issuer's signature is known, or all.")
    ] = "all"
    held_delegations: Annotated[
        Literal["mark", "revokeSource"],
        typer.Option(help="What to do with delegations that only their source token can end; it hurts the delegator."),
    ] = "mark"
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and do nothing.")] = False
    watch: Watch = False
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; a plan that changes is carried out as it is.")] = False
    as_json: Json = False


@agents.command("contain", epilog=LEGEND)
@as_options(ContainOptions)
def contain(options: ContainOptions) -> None:
    """Cut an agent off: show what it can reach, ask, and revoke every live token that it issued or holds."""
    if options.as_json and not (options.yes or options.dry_run):
        stop("--json asks nobody: add --yes or --dry-run", exits.USAGE)
    plan = _plan(options)
    if options.dry_run:
        _show(plan, as_json=options.as_json)
        return
    if plan.containment is None:
        plan = _carry_out(options, plan)
    else:
        note("the agent is contained already")
    if options.as_json:
        document(plan)
    elif plan.containment is not None:
        record(plan.containment, {**COLUMNS, **MORE})
        if plan.remaining:
            note(f"a job revokes the other {plan.remaining} ids")
    if options.watch and plan.containment is not None:
        reach.show(str(plan.containment.id), watch=True, as_json=options.as_json)


@agents.command("release", epilog=LEGEND)
@at_server
async def release(
    control_plane: "ControlPlane",
    aid: Aid,
    reason: Annotated[str, typer.Option(help="For the event and the audit.")],
    as_json: Json = False,
) -> None:
    """End a containment: the agent may enrol with a new manifest; its tokens stay revoked."""
    released = await control_plane.agents.release(aid, reason)
    if as_json:
        document(released)
    elif released.containment is not None:
        record(released.containment, {**COLUMNS, **MORE})


@containments.command("list", epilog=LEGEND)
@at_server
async def list_containments(
    control_plane: "ControlPlane",
    is_open: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    aid: Annotated[str | None, typer.Option(metavar="AID", help="Only those of this agent.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List containments, newest first."""
    fetch = partial(control_plane.containments.page, open=True if is_open else None, aid=aid)
    listing("containments", await some(fetch, limit), COLUMNS, as_json=as_json)


@containments.command("show", epilog=LEGEND)
@at_server
async def show(control_plane: "ControlPlane", containment: Id, as_json: Json = False) -> None:
    """Show a containment and the plan that it carried out."""
    _show(await control_plane.containments.get(containment), as_json=as_json)


@containments.command("reach", epilog=LEGEND)
def show_reach(containment: Id, watch: Watch = False, as_json: Json = False) -> None:
    """Show which exposed peers hold the list with its revocations. A peer is confirmed or unknown, never safe."""
    reach.show(containment, watch=watch, as_json=as_json)


def _carry_out(options: ContainOptions, plan: "Containment") -> "Containment":
    """Ask, and carry out the plan that was shown; ask again when it has changed meanwhile."""
    while True:
        if not options.as_json:
            _show(plan, as_json=False)
        if not options.yes:
            _confirm(options.aid)
        if (done := _act(options, plan.plan_digest)) is not None:
            return done
        note("the agent's live tokens have changed since this plan")
        plan = _plan(options)
        if options.yes:  # without `expect`: an agent must not escape because its tokens are reported all the time
            if not options.as_json:
                _show(plan, as_json=False)
            return _act(options, None) or plan


def _plan(options: ContainOptions) -> "Containment":
    return run(lambda control_plane: _contain(control_plane, options, dry_run=True))


def _act(options: ContainOptions, expect: str | None) -> "Containment | None":
    """Contain the agent; None if the plan is no longer the expected one."""

    async def work(control_plane: "ControlPlane") -> "Containment | None":
        try:
            return await _contain(control_plane, options, expect=expect)
        except ControlPlaneError as refused:
            if refused.code != PLAN_CHANGED:
                raise
            return None

    return run(work)


def _contain(
    control_plane: "ControlPlane", options: ContainOptions, *, expect: str | None = None, dry_run: bool = False
) -> "Awaitable[Containment]":
    return control_plane.agents.contain(
        options.aid,
        options.reason,
        dry_run=dry_run,
        ticket=options.ticket,
        include=options.include,
        held_delegations=options.held_delegations,
        expect=expect,
    )


def _confirm(aid: str) -> None:
    """Ask for the end of the AID, outside of the event loop: Ctrl-C must end the question at once."""
    end = aid[-CONFIRM_CHARS:]
    typed = typer.prompt(escaped(f"To contain {aid}, type its last {CONFIRM_CHARS} characters"), err=True)
    if typed.strip() != end:
        stop("that is not the end of its AID: nothing was changed", exits.REFUSED)


def _show(plan: "Containment", *, as_json: bool) -> None:
    if as_json:
        document(plan)
        return
    if plan.containment is not None:
        record(plan.containment, {**COLUMNS, **MORE})
    record(plan, PLAN)
    if plan.exposed_peers:
        table(plan.exposed_peers, PEERS)
    if plan.delegations.collateral:
        table(plan.delegations.collateral, COLLATERAL)

"""aitp-cp agents contain and release, aitp-cp containments list and show."""

from functools import partial

import typer

from aitp_cp_client import Containment, ContainmentRecord, ControlPlane, ControlPlaneError
from aitp_cp_client.commands import exits
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.containment_options import ContainOptions
from aitp_cp_client.commands.output import Columns, document, fields, listing, note, plain, some, stop, table
from aitp_cp_client.commands.reach import reach
from aitp_cp_client.containments import PLAN_CHANGED, Collateral, ExposedPeer

CONFIRM_CHARS = 4  # of the AID's end, typed again: enough to notice that it is another agent's

COLUMNS: Columns[ContainmentRecord] = {
    "id": lambda record: record.id,
    "aid": lambda record: record.aid,
    "contained": lambda record: record.contained_at,
    "released": lambda record: record.released_at,
    "ticket": lambda record: record.ticket,
    "reason": lambda record: record.reason,
}
MORE: Columns[ContainmentRecord] = {
    "contained by": lambda record: record.contained_by,
    "include": lambda record: record.include,
    "held delegations": lambda record: record.held_delegations,
    "released by": lambda record: record.released_by,
    "release reason": lambda record: record.release_reason,
    "claims reported since": lambda record: record.claimed_only,
    "tokens listed since": lambda record: record.later_listed,
}
PLAN: Columns[Containment] = {
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
PEERS: Columns[ExposedPeer] = {
    "exposed peer": lambda peer: peer.aid,
    "name": lambda peer: peer.display_name,
    "live tokens": lambda peer: peer.live_tokens,
    "last session": lambda peer: peer.last_session_at,
}
COLLATERAL: Columns[Collateral] = {
    "stays valid": lambda item: item.kind,
    "jti": lambda item: item.jti,
    "source": lambda item: item.source_jti,
    "of": lambda item: item.aid,
}


def contain(options: ContainOptions) -> None:
    """Show the plan, ask, and carry out that plan; ask again when it has changed meanwhile."""
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
        _show_record(plan.containment)
        if plan.remaining:
            note(f"a job revokes the other {plan.remaining} ids")
    if options.watch and plan.containment is not None:
        reach(str(plan.containment.id), watch=True, as_json=options.as_json)


def release(aid: str, reason: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        released = await control_plane.agents.release(aid, reason)
        if as_json:
            document(released)
        elif released.containment is not None:
            _show_record(released.containment)

    run(work)


def list_containments(limit: int, *, as_json: bool, is_open: bool, aid: str | None) -> None:
    async def work(control_plane: ControlPlane) -> None:
        fetch = partial(control_plane.containments.page, open=True if is_open else None, aid=aid)
        listing("containments", await some(fetch, limit), COLUMNS, as_json=as_json)

    run(work)


def show(id: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        _show(await control_plane.containments.get(id), as_json=as_json)

    run(work)


def _carry_out(options: ContainOptions, plan: Containment) -> Containment:
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


def _plan(options: ContainOptions) -> Containment:
    [plan] = _calls(options, None, dry_run=True)
    return plan


def _act(options: ContainOptions, expect: str | None) -> Containment | None:
    """Contain the agent; None if the plan is no longer the expected one."""
    return next(iter(_calls(options, expect, dry_run=False)), None)


def _calls(options: ContainOptions, expect: str | None, *, dry_run: bool) -> list[Containment]:
    """Return the response, or nothing if the plan has changed."""
    answers: list[Containment] = []

    async def work(control_plane: ControlPlane) -> None:
        try:
            answer = await control_plane.agents.contain(
                options.aid,
                options.reason,
                dry_run=dry_run,
                ticket=options.ticket,
                include=options.include,
                held_delegations=options.held_delegations,
                expect=expect,
            )
        except ControlPlaneError as refused:
            if refused.code != PLAN_CHANGED:
                raise
        else:
            answers.append(answer)

    run(work)
    return answers


def _confirm(aid: str) -> None:
    """Ask for the end of the AID, outside of the event loop: Ctrl-C must end the question at once."""
    end = aid[-CONFIRM_CHARS:]
    typed = typer.prompt(plain(f"To contain {aid}, type its last {CONFIRM_CHARS} characters"), err=True)
    if typed.strip() != end:
        stop("that is not the end of its AID: nothing was changed", exits.REFUSED)


def _show(plan: Containment, *, as_json: bool) -> None:
    if as_json:
        document(plan)
        return
    if plan.containment is not None:
        _show_record(plan.containment)
    fields({name: of(plan) for name, of in PLAN.items()})
    if plan.exposed_peers:
        table(plan.exposed_peers, PEERS)
    if plan.delegations.collateral:
        table(plan.delegations.collateral, COLLATERAL)


def _show_record(record: ContainmentRecord) -> None:
    fields({name: of(record) for name, of in [*COLUMNS.items(), *MORE.items()]})

"""The options of the commands that contain an agent."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.grouping import as_options

Json = Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow the reach until every exposed peer is confirmed.")]
Aid = Annotated[str, typer.Argument(metavar="AID", help="The agent.")]
Id = Annotated[str, typer.Argument(metavar="CONTAINMENT", help="The containment's id.")]

containments = typer.Typer(help="Agents that were cut off.", epilog=LEGEND, no_args_is_help=True)


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


def add_to(agents: typer.Typer) -> None:
    """Add `contain` and `release` to the commands of agents."""
    agents.command("contain", epilog=LEGEND)(contain)
    agents.command("release", epilog=LEGEND)(release)


@as_options(ContainOptions)
def contain(options: ContainOptions) -> None:
    """Cut an agent off: show what it can reach, ask, and revoke every live token that it issued or holds."""
    from aitp_cp_client.commands.containments import contain

    contain(options)


def release(
    aid: Aid, reason: Annotated[str, typer.Option(help="For the event and the audit.")], as_json: Json = False
) -> None:
    """End a containment: the agent may enrol with a new manifest; its tokens stay revoked."""
    from aitp_cp_client.commands.containments import release

    release(aid, reason, as_json=as_json)


@containments.command("list", epilog=LEGEND)
def containments_list(
    is_open: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    aid: Annotated[str | None, typer.Option(metavar="AID", help="Only those of this agent.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many rows.")] = 100,
    as_json: Json = False,
) -> None:
    """List containments, newest first."""
    from aitp_cp_client.commands.containments import list_containments

    list_containments(limit, as_json=as_json, is_open=is_open, aid=aid)


@containments.command("show", epilog=LEGEND)
def containments_show(containment: Id, as_json: Json = False) -> None:
    """Show a containment and the plan that it carried out."""
    from aitp_cp_client.commands.containments import show

    show(containment, as_json=as_json)


@containments.command("reach", epilog=LEGEND)
def containments_reach(containment: Id, watch: Watch = False, as_json: Json = False) -> None:
    """Show which exposed peers hold the list with its revocations. A peer is confirmed or unknown, never safe."""
    from aitp_cp_client.commands.reach import reach

    reach(containment, watch=watch, as_json=as_json)

"""`aitp-cp conformance` and its options; loads the kit only when the command runs."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from aitp_cp_client.commands.parameters import as_options

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class ConformanceOptions:
    """The deployment, and facts about it that the kit cannot detect."""

    url: Annotated[str | None, typer.Option(envvar="AITP_CP_URL", help="As in https://cp.example.")] = None
    api_key: Annotated[
        str | None,
        typer.Option(help="One of its API_KEYS, better in AITP_CP_API_KEY or in the file AITP_CP_API_KEY_FILE names."),
    ] = None
    section: Annotated[list[str] | None, typer.Option(help="Only this section of the contract; repeatable.")] = None
    attacks: Annotated[
        bool, typer.Option("--attacks", help="Also try what attackers do to framing, hosts and paths; harmless.")
    ] = False
    show_list: Annotated[bool, typer.Option("--list", help="Show the checks and run none.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for scripts.")] = False
    environment: Annotated[Literal["production", "development"] | None, typer.Option(help="What its CP_ENV says.")] = (
        None
    )
    origin: Annotated[str | None, typer.Option(help="A browser origin that its CORS_ORIGIN allows.")] = None
    webhook_host: Annotated[
        str | None, typer.Option(help="Another host than example.com for webhooks to which nothing is sent.")
    ] = None
    receiver_host: Annotated[
        str | None, typer.Option(help="An address of this machine that it may send webhooks to.")
    ] = None
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait in total for rate limits.")] = 300
    revoke: Annotated[bool, typer.Option(help="Add a few permanent entries to the deny list.")] = True
    metrics: Annotated[bool, typer.Option(help="Expect to read its metrics; a proxy should deny them.")] = True


@app.command("conformance")
@as_options(ConformanceOptions)
def conformance(options: ConformanceOptions) -> None:
    """Check a deployment against the contract, from outside; exits 1 when a check fails."""
    from aitp_cp_conformance.report import conformance

    conformance(options)

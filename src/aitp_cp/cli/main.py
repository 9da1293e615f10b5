"""All sub-commands in one list; what a command needs is loaded when it is called."""

import typer

from aitp_cp import __version__
from aitp_cp.cli.conformance_options import ConformanceOptions
from aitp_cp.cli.console import line
from aitp_cp.cli.remote import commands as remote
from aitp_cp.cli.remote.grouping import as_options

app = typer.Typer(
    name="aitp-cp",
    help="The AITP control plane: see and steer a fleet of AI agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
retention = typer.Typer(help="Sweep old rows by hand.", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if show:
        line(__version__)
        raise typer.Exit


@app.command()
def serve(
    migrate: bool = typer.Option(False, "--migrate", help="Bring the schema to this version first."),
    jobs: bool = typer.Option(True, "--jobs/--no-jobs", help="Run background jobs too."),
    workers: int = typer.Option(1, "--workers", min=1, max=64, help="Processes that share the port."),
) -> None:
    """Serve in this environment; every setting comes from environment variables."""
    from aitp_cp.cli.serve import serve

    serve(migrate=migrate, jobs=jobs, workers=workers)


@app.command()
def worker() -> None:
    """Run the background jobs without a port, beside `serve --no-jobs`."""
    from aitp_cp.cli.serve import worker

    worker()


@app.command()
def dev() -> None:
    """Serve with an embedded Postgres and kept development secrets under .aitp-cp/."""
    from aitp_cp.cli.dev import dev

    dev()


@app.command()
def migrate() -> None:
    """Bring the database schema to this version; does nothing when it is there already."""
    from aitp_cp.cli.migrate import migrate

    migrate()


@app.command()
def check() -> None:
    """Examine settings, machine, database, schema and clock; exits 1 when anything fails."""
    from aitp_cp.cli.check import check

    check()


@app.command()
def keygen() -> None:
    """Print fresh secrets as environment lines; nothing is stored."""
    from aitp_cp.cli.keygen import keygen

    keygen()


@app.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document."""
    from aitp_cp.cli.openapi import openapi

    openapi()


@app.command("conformance")
@as_options(ConformanceOptions)
def conformance(asked: ConformanceOptions) -> None:
    """Check any deployment against the contract, from outside; exits 1 when it breaks a sentence."""
    from aitp_cp.cli.conformance import conformance

    conformance(asked)


@retention.command("run")
def retention_run(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only count what is due."),
) -> None:
    """Delete all rows that are due now, batch by batch, also where RETENTION_ENABLED is false."""
    from aitp_cp.cli.retention import run

    run(dry_run=dry_run)


app.add_typer(retention, name="retention")
remote.add_to(app)

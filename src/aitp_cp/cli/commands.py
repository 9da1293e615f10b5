"""The server's commands in one list; what a command needs is loaded when it is called."""

import os
import secrets

import typer

from aitp_cp.cli.exits import settings_or_stop
from aitp_cp_client.commands.keys import Work, keys_group

app = typer.Typer()
retention = typer.Typer(help="Sweep old rows by hand.", no_args_is_help=True)


@app.command()
def serve(
    migrate: bool = typer.Option(False, "--migrate", help="Bring the schema to this version first."),
    jobs: bool = typer.Option(True, "--jobs/--no-jobs", help="Run background jobs too."),
    workers: int = typer.Option(1, "--workers", min=1, max=64, help="Processes that share the port."),
) -> None:
    """Serve in this environment; every setting comes from environment variables."""
    settings = settings_or_stop("serve")  # before anything heavy is loaded
    if migrate:
        from aitp_cp.cli.migrate import upgrade_or_stop

        upgrade_or_stop(settings, code=0)
    if workers > 1:
        from aitp_cp.cli import replicas

        # Without a seed each process would make up an identity of its own.
        seed = {} if settings.cp_aid_seed_hex else {"CP_AID_SEED_HEX": secrets.token_hex(32)}
        settings = settings_or_stop("serve", {**os.environ, **seed})
        raise typer.Exit(replicas.run(settings, workers, jobs=jobs))
    from aitp_cp.cli import process

    process.announce(settings)
    process.serve(settings, jobs=jobs)


@app.command()
def worker() -> None:
    """Run the background jobs without a port, beside `serve --no-jobs`."""
    settings = settings_or_stop("worker")
    from aitp_cp.cli import process

    process.announce(settings)
    process.work(settings)


@app.command()
def dev() -> None:
    """Serve with an embedded Postgres and kept development secrets under .aitp-cp/."""
    from aitp_cp.cli.dev import dev

    dev()


@app.command()
def migrate() -> None:
    """Bring the database schema to this version; does nothing when it is there already."""
    from aitp_cp.cli.migrate import upgrade_or_stop

    upgrade_or_stop(settings_or_stop("tool"))


@app.command()
def check() -> None:
    """Examine settings, machine, database, schema and clock; exits 1 when anything fails."""
    from aitp_cp.cli.check import check

    check()


@app.command()
def keygen() -> None:
    """Print fresh secrets as environment lines; nothing is stored."""
    from aitp_cp_client.commands.output import line

    line(f"CP_AID_SEED_HEX={secrets.token_hex(32)}")
    line(f"ENROLLMENT_SECRET={secrets.token_urlsafe(48)}")
    line(f"API_KEYS={secrets.token_urlsafe(32)}")


@app.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document."""
    from aitp_cp.app import openapi_document
    from aitp_cp_client.commands.output import line

    line(openapi_document().decode())


@app.command()
def plan(
    agents: int = typer.Option(..., min=0, help="Registered agents."),
    events_per_second: float = typer.Option(..., min=0, help="Events reported, on average over the busiest hour."),
    streams: int = typer.Option(10, min=0, help="Open event streams, each without a filter."),
    polling_peers: int | None = typer.Option(
        None, min=0, help="Peers that fetch the signed list every minute; by default all agents."
    ),
    retention_days: int = typer.Option(90, min=1, help="AUDIT_EVENTS_TTL_DAYS."),
    replicas: int = typer.Option(2, min=1, max=1000, help="Processes to begin with."),
) -> None:
    """Compute from measured costs what a load needs, and which limit it meets first."""
    from aitp_cp.cli.capacity import Load
    from aitp_cp.cli.plan import plan

    plan(
        Load(
            agents,
            events_per_second,
            streams=streams,
            polling_peers=agents if polling_peers is None else polling_peers,
            retention_days=retention_days,
            replicas=replicas,
        )
    )


@retention.command("run")
def retention_run(
    dry_run: bool = typer.Option(False, "--dry-run", help="Only count what is due."),
) -> None:
    """Delete all rows that are due now, batch by batch, also where RETENTION_ENABLED is false."""
    from aitp_cp.cli.retention import run

    run(dry_run=dry_run)


def _keys(work: Work) -> None:
    from aitp_cp.cli.keys import run

    run(work)


app.add_typer(retention, name="retention")
app.add_typer(keys_group(_keys), name="keys")

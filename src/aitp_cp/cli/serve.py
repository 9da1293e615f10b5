"""aitp-cp serve."""

import asyncio

import typer

from aitp_cp.cli.console import settings_or_stop


def serve(
    migrate: bool = typer.Option(False, "--migrate", help="Bring the schema to this version first."),
    jobs: bool = typer.Option(True, "--jobs/--no-jobs", help="Run background jobs in this process."),
) -> None:
    """Serve in this environment; every setting comes from environment variables."""
    settings = settings_or_stop("serve")
    from aitp_cp.cli import process  # a wrong setting is reported before anything heavy is loaded

    if migrate:
        from aitp_cp.cli.migrate import upgrade_or_stop

        asyncio.run(upgrade_or_stop(settings))
    process.run(settings, jobs=jobs)

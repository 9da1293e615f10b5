"""aitp-cp serve and aitp-cp worker."""

import os
import secrets

import typer

from aitp_cp.cli.exits import settings_or_stop


def serve(*, migrate: bool, jobs: bool, workers: int) -> None:
    """Serve in this environment; a wrong setting is reported before anything heavy is loaded."""
    environ = dict(os.environ)
    settings = settings_or_stop("serve", environ)
    if migrate:
        from aitp_cp.cli.migrate import upgrade_or_stop

        upgrade_or_stop(settings, code=0)
    if workers > 1:
        from aitp_cp.cli import replicas

        # Without a seed each process would make up an identity of its own.
        seed = {} if settings.cp_aid_seed_hex else {"CP_AID_SEED_HEX": secrets.token_hex(32)}
        raise typer.Exit(replicas.run(settings_or_stop("serve", environ | seed), workers, jobs=jobs))
    from aitp_cp.cli import process

    process.announce(settings)
    process.serve(settings, jobs=jobs)


def worker() -> None:
    """The jobs that replicas share, in a process without a port."""
    settings = settings_or_stop("worker")
    from aitp_cp.cli import process

    process.announce(settings)
    process.work(settings)

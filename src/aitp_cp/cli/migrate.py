"""Bring the schema to this version, for `migrate`, `serve --migrate` and `dev`."""

from aitp_cp.cli.database import failures_explained
from aitp_cp.cli.exits import DATABASE
from aitp_cp.cli.running import run
from aitp_cp.settings import Settings
from aitp_cp_client.commands.output import notices, stop


def upgrade_or_stop(settings: Settings, *, every_step: bool = True, code: int | None = None) -> None:
    """Apply what is missing, saying every step or only each revision; leaves with a reason when it cannot.

    Told to end it leaves with `code`, or as a program that the signal ended.
    """
    run(lambda ending: _upgrade(settings, every_step=every_step), code=code)


async def _upgrade(settings: Settings, *, every_step: bool) -> None:
    from aitp_cp.db.migrations.run import CannotMigrate, SchemaAhead, upgrade

    try:
        with failures_explained(OSError):
            applied = await upgrade(settings.dsn, on_step=_say if every_step else _say_what_matters)
    except SchemaAhead as ahead:
        stop(f"{ahead}: deploy the version that migrated it", DATABASE)
    except CannotMigrate as obstacle:
        stop(f"nothing was migrated: {obstacle}", DATABASE)
    notices.print(f"schema at head, {len(applied)} revision(s) applied" if applied else "schema at head, nothing to do")


def _say_what_matters(step: str) -> None:
    """Among the lines of a server: no index by name, no count of rows."""
    if step.startswith(("revision", "waiting", "the log")):
        _say(step)


def _say(step: str) -> None:
    notices.print(f"  {step}", highlight=False, markup=False, soft_wrap=True)  # a line of a log

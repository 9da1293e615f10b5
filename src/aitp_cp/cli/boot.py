"""The checks of the database before a process serves."""

import structlog

from aitp_cp.cli.exits import DATABASE
from aitp_cp.db import WRITABLE, Connection, fitness, numbering
from aitp_cp.db.migrations import classify
from aitp_cp.db.migrations.adoption import misplaced
from aitp_cp.db.schema import current_revision
from aitp_cp_client.commands.output import stop

log = structlog.get_logger("aitp_cp.process")


async def require_fit(dsn: str) -> None:
    """Exit with the reason if the database cannot be used; raise the driver's errors."""
    if reason := await fitness.unfit(dsn):
        stop(f"this database cannot be served: {reason}", DATABASE)
    async with fitness.session(dsn) as conn:
        state = classify(await current_revision(conn))
        if state == "behind":
            remedy = "run `aitp-cp migrate`, or start with `serve --migrate`"
            stop(f"the database schema is behind: {await misplaced(conn) or remedy}", DATABASE)
        if state == "ahead":
            stop("the database schema is newer than this version: deploy the version that migrated it", DATABASE)
        if reason := await fitness.undurable(conn):
            log.warning("database_not_durable", reason=reason)
        if await conn.fetchval(WRITABLE):
            await _repair_sequence(conn)
        else:
            log.warning("database_read_only", effect="not ready until the server accepts writes")


async def _repair_sequence(conn: Connection) -> None:
    try:
        repaired = await numbering.repair(conn)
    except numbering.RepairRefused:
        stop(numbering.BEHIND_AND_REFUSED, DATABASE)
    if repaired:
        log.warning("log_sequence_repaired", next=repaired.next, log_end=repaired.log_end)

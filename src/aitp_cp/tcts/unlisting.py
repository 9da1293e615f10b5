"""Which revocations the signed list can leave out, for nobody accepts their tokens any more (contract, section 21).

Only signatures decide. An entry leaves the list when everything known under its id is one token, which its issuer
signed, and that ended more than five minutes ago by the database's clock. A report that changes this puts it back.
"""

from collections.abc import Collection
from uuid import UUID

from aitp_cp.db import Connection

# Tokens that several callers reported with different ends or parties are in conflict; a delegation of the same id may
# end later than the token.
IS_OVER = """(
    verdict IS NOT DISTINCT FROM 'verified' AND NOT coalesce(conflict, false)
    AND coalesce(expires_at < now() - interval '5 minutes', false)
    AND NOT EXISTS (SELECT 1 FROM delegations WHERE delegations.jti = issued_tcts.jti)
)"""

UNLIST = f"""
UPDATE revocation_entries SET unlisted_at = now()
WHERE jti IN (
    SELECT entry.jti FROM revocation_entries AS entry JOIN issued_tcts USING (jti)
    WHERE unlisted_at IS NULL AND {IS_OVER}
    ORDER BY entry.jti LIMIT $1 FOR UPDATE OF entry SKIP LOCKED
)
"""

# Of tokens and delegations that a report has just written.
RELIST = f"""
UPDATE revocation_entries SET unlisted_at = NULL
WHERE jti = ANY($1::uuid[]) AND unlisted_at IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM issued_tcts WHERE issued_tcts.jti = revocation_entries.jti AND {IS_OVER})
"""


async def unlist(conn: Connection, limit: int) -> int:
    """Take at most `limit` entries off the signed list; return how many."""
    return int((await conn.execute(UNLIST, limit)).rpartition(" ")[2])


async def relist(conn: Connection, jtis: Collection[UUID]) -> None:
    """Put entries back whose tokens are not over after all."""
    await conn.execute(RELIST, sorted(jtis))

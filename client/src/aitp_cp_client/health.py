"""Health and readiness; a response of 503 is not an error here."""

import msgspec

from aitp_cp_client.transport import Call, Transport


class Health(msgspec.Struct, frozen=True):
    ok: bool
    service: str
    aid: str
    db: str


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """`reason` if not ready: `database_unavailable`, `migrations_pending` or `shutting_down`."""

    ready: bool
    reason: str | None = None


async def health(transport: Transport) -> Health:
    return (await transport.send(_probe("/api/health"))).read(Health)


async def readiness(transport: Transport) -> Readiness:
    return (await transport.send(_probe("/api/readyz"))).read(Readiness)


def _probe(path: str) -> Call:
    return Call(path=path, gated=False, repeatable=False, answers=(503,))

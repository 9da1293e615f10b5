"""What the edge knows about the request at hand."""

import re
from dataclasses import dataclass, field
from random import getrandbits
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import Scope

if TYPE_CHECKING:
    from aitp_cp.errors import AppError
    from aitp_cp.web.endpoint import Endpoint

CONTEXT = "aitp_cp"
ANONYMOUS = "anonymous"
_RANDOM_BITS = ~(0xF << 76 | 0x3 << 62)
_VERSION_4 = 0x4 << 76 | 0x2 << 62
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


@dataclass(slots=True)
class RequestContext:
    """Filled by the edge from the outside in; read by handlers, the audit and the access log."""

    request_id: str
    client_ip: str
    actor: str = ANONYMOUS
    caller: str | None = None  # who the limits per caller count; None where no credential tells one from another
    endpoint: "Endpoint | None" = None
    error: "AppError | None" = None  # what the answer says
    headers: dict[str, str] = field(default_factory=dict)  # added to whatever the answer turns out to be


def request_id(offered: str | None) -> str:
    """The client's own id when it is well-formed, else a fresh one (contract, section 2)."""
    if offered is not None and _REQUEST_ID.match(offered):
        return offered
    return _fresh()


def _fresh() -> str:
    """A UUIDv4; nothing depends on its being hard to guess, and asking the system for each would cost more."""
    digits = "%032x" % (getrandbits(128) & _RANDOM_BITS | _VERSION_4)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def context_of(source: Request | Scope) -> RequestContext:
    scope = source.scope if isinstance(source, Request) else source
    context: RequestContext = scope[CONTEXT]
    return context

"""What the server knows about the request being handled."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from random import getrandbits
from typing import TYPE_CHECKING
from uuid import UUID

from starlette.requests import Request
from starlette.types import Scope as AsgiScope

from aitp_cp.protocol.http_signature import Digest
from aitp_cp.protocol.scopes import Scope

if TYPE_CHECKING:
    from aitp_cp.errors import AppError
    from aitp_cp.web.endpoint import Endpoint
    from aitp_cp.web.principal import Credentials, Kind, Principal, Sessions

CONTEXT = "aitp_cp"
BODY = "aitp_cp.body"  # in the scope of a request that announces one
REFUSED = "aitp_cp.refused_bytes"  # in the scope of one whose body cannot be parsed: the context of the refusal
ANONYMOUS = "anonymous"
UNMATCHED = "unmatched"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
_VARIANTS = ("8", "9", "a", "b")


@dataclass(slots=True)
class RequestContext:
    """Filled in by the edge, the router and the gate; read by handlers, the audit and the access log."""

    request_id: str
    client_ip: str
    actor: str = ANONYMOUS
    principal: "Principal | None" = None  # set by the gate of an endpoint that needs a credential
    credentials: "Credentials | Sessions | None" = None  # where the principal comes from; None for those that never end
    digests: tuple[Digest, ...] = ()  # that the signer of the request wants its body to have
    caller: str | None = None  # whom the limits per caller count; None without a credential
    endpoint: "Endpoint | None" = None
    route: str = UNMATCHED  # the endpoint's path as logs and metrics show it
    error: "AppError | None" = None  # what the response says
    reason: str | None = None  # in the log: why bytes are not a request
    headers: dict[str, str] = field(default_factory=dict)  # added to every response

    def credential_is_valid(self) -> bool:
        """Return whether the credential is still good, which a response that goes on for long must ask again."""
        return self.credentials is None or self.principal is None or self.credentials.is_valid(self.principal)

    @property
    def via(self) -> dict[str, str]:
        """What audit rows say of a person at the console: the session, by the beginning of its id, and the address."""
        if self.endpoint is None or not self.endpoint.of_console:
            return {}
        session = {} if self.session is None else {"session": self.session.hex[:8]}
        return {"via": "console", "address": self.client_ip, **session}

    @property
    def session(self) -> UUID | None:
        """The browser session of a person at the console."""
        return None if self.principal is None else self.principal.session

    @property
    def actor_name(self) -> str | None:
        return None if self.principal is None else self.principal.name

    @property
    def kind(self) -> "Kind | None":
        return None if self.principal is None else self.principal.kind

    @property
    def scopes(self) -> frozenset[Scope]:
        return frozenset() if self.principal is None else self.principal.scopes

    @property
    def expires_at(self) -> datetime | None:
        return None if self.principal is None else self.principal.expires_at


def request_id(offered: str | None) -> str:
    """Return the client's own id when it is well-formed, else a fresh UUIDv4 (contract, section 2)."""
    if offered is not None and _REQUEST_ID.match(offered):
        return offered
    # Nothing depends on it being hard to guess, and asking the system for random bytes would cost more.
    bits = getrandbits(124)
    digits = f"{bits:031x}"
    variant = _VARIANTS[bits & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{variant}{digits[15:18]}-{digits[18:30]}"


Source = Request | AsgiScope


def context_of(source: Source) -> RequestContext:
    scope = source.scope if isinstance(source, Request) else source
    context: RequestContext = scope[CONTEXT]
    return context

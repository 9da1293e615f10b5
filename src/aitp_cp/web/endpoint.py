"""One endpoint, declared once: what it is called, who may call it, what it takes and gives."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.errors import AppError
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.query import PageQuery

Handler = Callable[[Runtime, Request], Awaitable[Response]]

CONSOLE = "/console/"  # where every path of the console begins
EVENTS_BODY_LIMIT = 256 * 1024
BODY_LIMIT = 64 * 1024


class Gate(StrEnum):
    """Who may call: anyone, the holder of an enrollment token, of a credential with the scope, or of any credential;

    or a browser that has signed in to the console, whose session has the scope if there is one.
    """

    OPEN = "open"
    ENROLLMENT_TOKEN = "enrollment-token"  # noqa: S105 - the name of a gate
    API_KEY = "api-key"
    CREDENTIAL = "credential"
    SESSION = "session"


class Bucket(StrEnum):
    """The token buckets of contract section 4, and those of the console (section 22)."""

    ENROLL_IP = "enroll-ip"
    PUBLIC_IP = "public-ip"
    API_KEY = "api-key"
    AGENT = "agent"
    AGENT_AUTH_IP = "agent-auth-ip"
    CONSOLE = "console"
    LOGIN_IP = "login-ip"
    EXEMPT = "exempt"


@dataclass(frozen=True, slots=True)
class Param:
    """A header or path parameter as the OpenAPI document shows it; `kind` is a JSON schema."""

    name: str
    about: str
    kind: Mapping[str, Any]
    place: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """Where a success leads: an endpoint as `METHOD /path`, and where what it takes is to be found.

    The values of `takes`, by parameter, and those in `body` are constants or runtime expressions of OpenAPI:
    `$response.body#/id`, `$response.header.ETag`, `$request.path.id`.
    """

    to: str
    takes: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the endpoint table. `name` is `METHOD /path`; `params` may hold those of the room's other paths, too."""

    name: str
    handler: Handler
    summary: str
    _: KW_ONLY
    method: str = field(init=False)
    path: str = field(init=False)
    tag: str
    gate: Gate = Gate.API_KEY
    scope: Scope | None = None  # what a credential or session needs; every endpoint behind `Gate.API_KEY` has one
    bucket: Bucket | None = None
    query: type[Struct] | None = None  # its described fields are the query parameters
    params: tuple[Param, ...] = ()  # in the path or a header
    body: Any = None  # the request struct, for the document
    body_limit: int = BODY_LIMIT
    responses: Mapping[int, Any]  # success status → response struct; None for no body; str for a media type; or several
    errors: tuple[type[AppError], ...] = ()  # besides `openapi.errors_by_kind`
    signable: bool = False  # takes a request that an agent signed (RFC 9421) instead of a bearer credential
    idempotent: bool = False  # accepts Idempotency-Key
    bulk: bool = False  # an export or a dashboard; implied for lists: one caller runs few of them at once
    streaming: bool = False  # the response has no end, so HEAD makes no sense
    cross_site: bool = False  # of the console, takes a POST that no page of ours sends
    documented: bool = True  # in the OpenAPI document and docs/api.md; pages for people are not
    leads_to: tuple[Link, ...] = ()  # at most one to an endpoint

    def __post_init__(self) -> None:
        method, _, path = self.name.partition(" ")
        own = tuple(param for param in self.params if param.place != "path" or f"{{{param.name}}}" in path)
        derived = {"method": method, "path": path, "params": own, "bulk": self.bulk or self.is_list}
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen for everybody else
        if (self.scope is not None) != (self.gate is Gate.API_KEY) and self.gate is not Gate.SESSION:
            raise TypeError(f"{self.name}: an endpoint has a scope if it is behind Gate.API_KEY, and only then")

    @property
    def gated(self) -> bool:
        """Whether it needs a credential of any kind but an enrollment token."""
        return self.gate in (Gate.API_KEY, Gate.CREDENTIAL)

    @property
    def of_console(self) -> bool:
        return self.path.startswith(CONSOLE)

    @property
    def template(self) -> str:
        """The path as logs and metrics show it: braces would end a label early for simple readers."""
        return self.path.replace("{", ":").replace("}", "")

    @property
    def uuids(self) -> frozenset[str]:
        """The parameters of the path that must be UUIDs."""
        return frozenset(param.name for param in self.params if param.kind.get("format") == "uuid")

    @property
    def is_list(self) -> bool:
        return self.query is not None and issubclass(self.query, PageQuery)

    @property
    def limited_by(self) -> Bucket:
        if self.bucket is not None:
            return self.bucket
        if self.gate is Gate.SESSION:
            return Bucket.CONSOLE
        return Bucket.API_KEY if self.gated else Bucket.PUBLIC_IP


def in_path(name: str, about: str) -> Param:
    return Param(name, about, {"type": "string"}, place="path", required=True)


def uuid_in_path(name: str, about: str) -> Param:
    return Param(name, about, {"type": "string", "format": "uuid"}, place="path", required=True)


def links(*targets: str, **takes: str) -> tuple[Link, ...]:
    """Return a link to each of these endpoints, which all take the same."""
    return tuple(Link(target, takes) for target in targets)

"""Read DATABASE_URL once, for every part that connects.

Each client has its own parameters in the same URL. The driver sends every name it does not know to the server, which
refuses the connection. So each name is one of: kept, mapped, dropped with a notice, or refused by name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_SCHEME = re.compile(r"postgres(ql)?(\+[a-z0-9_]+)?\Z")
_PORT = re.compile(r":([^\]:]*)\Z")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Read by the driver itself.
_DRIVER = frozenset(
    {
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "service",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "options",
    }
)
# Set on each connection after it is made: a pooler refuses most of them as startup parameters.
_SERVER = frozenset(
    {
        "search_path",
        "role",
        "work_mem",
        "maintenance_work_mem",
        "temp_buffers",
        "default_tablespace",
        "temp_tablespaces",
    }
)
_RENAMED = {
    "currentschema": "search_path",
    "schema": "search_path",
    "applicationname": "application_name",
    "fallback_application_name": "application_name",
}
_PINNED_HERE = "is ignored: the control plane sets it itself"
_DROPPED = {
    **dict.fromkeys(("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"), "is ignored"),
    **dict.fromkeys(("tcp_user_timeout", "sslcompression", "sslsni", "gssdelegation"), "is ignored"),
    **dict.fromkeys(("connect_timeout", "command_timeout", "socket_timeout", "pool_timeout"), _PINNED_HERE),
    **dict.fromkeys(("client_encoding", "charset", "timezone", "datestyle", "statement_timeout"), _PINNED_HERE),
    **dict.fromkeys(("lock_timeout", "idle_in_transaction_session_timeout", "jit", "bytea_output"), _PINNED_HERE),
    **dict.fromkeys(("synchronous_commit", "default_transaction_isolation"), _PINNED_HERE),
    **dict.fromkeys(("statement_cache_size", "prepared_statement_cache_size", "preparethreshold"), _PINNED_HERE),
    **dict.fromkeys(("connection_limit", "pool_size", "max_overflow"), "is ignored: see DB_POOL_MAX"),
    "pgbouncer": "is ignored: a pooler must be in session mode",
    "uselibpqcompat": "is ignored: sslmode is read as libpq reads it",
    "channel_binding": "is ignored: the driver has no channel binding; sslmode=verify-full proves who the server is",
    "load_balance_hosts": "is ignored: hosts are tried in order",
}
_NOT_OFFERED = {"gssencmode": {"require"}, "replication": {"true", "on", "yes", "1", "database"}}
_HARMLESS = frozenset(_NOT_OFFERED)


class DatabaseUrlError(ValueError):
    """The URL cannot be used; the sentence names the parameter and never repeats a value."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """What the driver is given: a URL it understands, and what is set on each connection."""

    dsn: str
    application_name: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    verify_by_system: bool = False  # check the server's certificate and name against the system's authorities
    names_user: bool = True
    notices: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    driver: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    application_name: str | None = None
    verify_by_system: bool = False
    notices: list[str] = field(default_factory=list)


@lru_cache(maxsize=16)
def read(url: str) -> DatabaseUrl:
    """Return the parts of a PostgreSQL URL; raises `DatabaseUrlError`."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:  # its message would repeat the URL
        raise DatabaseUrlError(_unescaped("[ or ]")) from None
    if not _SCHEME.match(parts.scheme):
        raise DatabaseUrlError("must be a postgres:// or postgresql:// URL")
    if "#" in url:
        raise DatabaseUrlError(_unescaped("#"))
    _refuse_torn_password(parts.netloc, parts.path, parts.query)
    reading = _Reading()
    for name, value in pairs:
        _take(reading, name, value)
    _check_ports(parts.netloc, reading.driver.get("port", ""))
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    netloc = f"{_quoted(user)}{colon}{_quoted(password)}@{hosts}" if credentials else hosts
    query = urlencode(reading.driver, quote_via=quote)
    return DatabaseUrl(
        dsn=f"postgresql://{netloc}{parts.path}" + (f"?{query}" if query else ""),
        application_name=reading.application_name,
        settings=reading.settings,
        verify_by_system=reading.verify_by_system,
        names_user=bool(user or reading.driver.get("user") or reading.driver.get("service")),
        notices=tuple(reading.notices),
    )


def _take(reading: _Reading, name: str, value: str) -> None:
    """Sort one parameter; raises `DatabaseUrlError` for one that nobody can honour."""
    known = _RENAMED.get(name.lower(), name.lower())
    if not value:
        raise DatabaseUrlError(f"must be a URL in which the parameter {_shown(name)} has a value")
    if known in _SPECIAL:
        _SPECIAL[known](reading, value)
    elif known in _DRIVER:
        reading.driver[known] = value
    elif known in _SERVER:
        reading.settings[known] = value
    elif known == "application_name":
        reading.application_name = value
    elif known in _DROPPED:
        reading.notices.append(f"{known} {_DROPPED[known]}")
    elif known in _HARMLESS and value.lower() not in _NOT_OFFERED[known]:
        return
    else:
        raise DatabaseUrlError(
            f"must be a URL without the parameter {_shown(name)}, which is not known here; "
            "a setting of the server goes into options=-c%20name%3Dvalue"
        )


def _take_sslmode(reading: _Reading, value: str) -> None:
    if value == "no-verify":
        reading.notices.append("sslmode=no-verify is read as sslmode=require: encrypted, the server is not verified")
        value = "require"
    if value not in SSL_MODES:
        raise DatabaseUrlError(f"must be a URL whose sslmode is one of {', '.join(SSL_MODES)}")
    reading.driver["sslmode"] = value


def _take_ssl(reading: _Reading, value: str) -> None:
    """What node-postgres and JDBC call `ssl`; there `true` verifies the server."""
    if value.lower() in {"true", "1", "on"}:
        reading.verify_by_system = True
        reading.notices.append("ssl=true is read as sslmode=verify-full with the system's certificate authorities")
    elif value.lower() in {"false", "0", "off"}:
        _take_sslmode(reading, "disable")
    else:
        _take_sslmode(reading, value)


def _take_root(reading: _Reading, value: str) -> None:
    if value == "system":
        reading.verify_by_system = True
    else:
        reading.driver["sslrootcert"] = value


_SPECIAL: dict[str, Callable[[_Reading, str], None]] = {
    "sslmode": _take_sslmode,
    "ssl": _take_ssl,
    "sslrootcert": _take_root,
}


def _refuse_torn_password(netloc: str, path: str, query: str) -> None:
    """A password with / or ? in it ends the host part too early; the rest then holds the @."""
    if "@" not in netloc and "@" in path:
        raise DatabaseUrlError(_unescaped("/"))
    if "@" not in netloc and not path and "@" in query and not re.search(r"(^|&)user=", query):
        raise DatabaseUrlError(_unescaped("?"))


def _unescaped(characters: str) -> str:
    return (
        f"must be a URL without a bare {characters}; in a user or password write "
        "%2F for /, %3F for ?, %23 for #, %40 for @, %5B for [, %5D for ]"
    )


def _check_ports(netloc: str, listed: str) -> None:
    hosts = netloc.rpartition("@")[2].split(",")
    ports = [port for host in hosts for port in _PORT.findall(host)] + listed.split(",")
    if not all(port == "" or (port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535) for port in ports):
        raise DatabaseUrlError("must be a URL whose ports are numbers from 1 to 65535")


def _quoted(text: str) -> str:
    return quote(unquote(text), safe="")


def _shown(name: str) -> str:
    """A name may be half of a password that was not escaped."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", name) else "(not a name)"

"""Read DATABASE_URL once, for every part that connects.

Each client has its own parameters in the same URL. The driver sends every name it does not know to the server, which
refuses the connection. So each name is one of: kept, mapped, dropped with a notice, or refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

_SCHEME = re.compile(r"postgres(ql)?(\+[a-z0-9_]+)?\Z")
_PORT = re.compile(r":([^\]:]*)\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The driver reads these itself.
_DRIVER = _names(
    """host port dbname database user password passfile service options target_session_attrs krbsrvname gsslib
    sslmode sslcert sslkey sslrootcert sslcrl sslpassword sslnegotiation
    ssl_min_protocol_version ssl_max_protocol_version"""
)
_OF_HOSTS = _names("host port target_session_attrs")
# Set on each connection after it is made: a pooler refuses most of them as startup parameters.
_SERVER = _names("search_path role work_mem maintenance_work_mem temp_buffers default_tablespace temp_tablespaces")
_RENAMED = {
    "currentschema": "search_path",
    "schema": "search_path",
    "applicationname": "application_name",
    "fallback_application_name": "application_name",
}
_IGNORED = _names(
    """keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout sslcompression sslsni
    gssdelegation"""
)
_SET_HERE = _names(
    """connect_timeout command_timeout socket_timeout pool_timeout client_encoding charset timezone datestyle
    statement_timeout lock_timeout idle_in_transaction_session_timeout jit bytea_output synchronous_commit
    default_transaction_isolation statement_cache_size prepared_statement_cache_size preparethreshold"""
)
_DROPPED = {
    **dict.fromkeys(_IGNORED, "is ignored"),
    **dict.fromkeys(_SET_HERE, "is ignored: the control plane sets it itself"),
    **dict.fromkeys(("connection_limit", "pool_size", "max_overflow"), "is ignored: see DB_POOL_MAX"),
    "pgbouncer": "is ignored: a pooler must be in session mode",
    "uselibpqcompat": "is ignored: sslmode is read as libpq reads it",
    "channel_binding": "is ignored: the driver has no channel binding; sslmode=verify-full proves who the server is",
    "load_balance_hosts": "is ignored: of the hosts that can be used, the first is",
}
# Harmless, but for these values.
_NOT_OFFERED = {"gssencmode": {"require"}, "replication": {"true", "on", "yes", "1", "database"}}


class DatabaseUrlError(ValueError):
    """The URL cannot be used; the sentence names the parameter and never repeats a value."""


class Host(NamedTuple):
    """A name, an address or the folder of a socket; the port is empty for the default."""

    name: str
    port: str

    def __str__(self) -> str:
        return f"{self.name}:{self.port}" if self.port else self.name


@dataclass(slots=True)
class DatabaseUrl:
    """What the driver is given: a URL it understands, and what is set on each connection."""

    dsn: str = ""
    application_name: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    verify_by_system: bool = False  # check the server's certificate and name against the system's authorities
    names_user: bool = True
    notices: list[str] = field(default_factory=list)
    hosts: tuple["Host", ...] = ()  # empty when the URL names none
    attributes: str | None = None  # of the server: target_session_attrs
    _parts: tuple[str, str, Mapping[str, str]] = ("", "", {})

    def alone(self, host: "Host", attributes: str) -> str:
        """Return the URL of one host that connects only to a server with these `target_session_attrs`."""
        credentials, path, driver = self._parts
        port = {"port": host.port} if host.port else {}
        alone = {**driver, "host": host.name, **port, "target_session_attrs": attributes}
        return f"postgresql://{credentials}{path}?{urlencode(alone, quote_via=quote)}"


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
    result, driver = DatabaseUrl(), dict[str, str]()
    for name, value in pairs:
        _take(result, driver, name, value)
    credentials, _, hosts = parts.netloc.rpartition("@")
    _check_ports([port for host in hosts.split(",") for port in _PORT.findall(host)])
    _check_ports(driver.get("port", "").split(","))
    user, colon, password = credentials.partition(":")
    netloc = f"{_quoted(user)}{colon}{_quoted(password)}@" if credentials else ""
    query = urlencode(driver, quote_via=quote)
    result.dsn = f"postgresql://{netloc}{hosts}{parts.path}" + (f"?{query}" if query else "")
    result.hosts, result.attributes = _hosts(unquote(hosts), driver), driver.get("target_session_attrs")
    result._parts = netloc, parts.path, {name: driver[name] for name in driver if name not in _OF_HOSTS}
    result.names_user = bool(user or driver.get("user") or driver.get("service"))
    return result


def _take(result: DatabaseUrl, driver: dict[str, str], name: str, value: str) -> None:
    """Sort one parameter; raises `DatabaseUrlError` for one that nobody can honour."""
    shown = name if _NAME.fullmatch(name) else "(not a name)"  # it may be half of a password that was not escaped
    known = _RENAMED.get(name.lower(), name.lower())
    if not value:
        raise DatabaseUrlError(f"must be a URL in which the parameter {shown} has a value")
    if known in {"sslmode", "ssl"}:
        _take_ssl(result, driver, known, value)
    elif known == "sslrootcert" and value == "system":
        result.verify_by_system = True
    elif known in _DRIVER:
        driver[known] = value
    elif known in _SERVER:
        result.settings[known] = value
    elif known == "application_name":
        result.application_name = value
    elif known in _DROPPED:
        result.notices.append(f"{known} {_DROPPED[known]}")
    elif value.lower() in _NOT_OFFERED.get(known, {value.lower()}):
        raise DatabaseUrlError(
            f"must be a URL without the parameter {shown}, which is not known here; "
            "a setting of the server goes into options=-c%20name%3Dvalue"
        )


def _hosts(listed: str, driver: Mapping[str, str]) -> tuple[Host, ...]:
    """Return the hosts; `port` in the query has one for all of them, or one for each."""
    names = (listed or driver.get("host", "")).split(",")
    ports = driver.get("port", "").split(",")
    if len(ports) not in {1, len(names)}:
        raise DatabaseUrlError("must be a URL with one port, or one port for each host")
    if names == [""]:
        return ()
    if "" in names:
        raise DatabaseUrlError("must be a URL without an empty host between commas")
    return tuple(_host(name, ports[number % len(ports)]) for number, name in enumerate(names))


def _host(name: str, port: str) -> Host:
    own = None if name.startswith("/") else _PORT.search(name)
    return Host(name[: own.start()], own[1]) if own else Host(name, port)


def _take_ssl(result: DatabaseUrl, driver: dict[str, str], name: str, value: str) -> None:
    """`ssl` is what node-postgres and JDBC call it; there `true` verifies the server."""
    if name == "ssl" and value.lower() in {"true", "1", "on"}:
        result.verify_by_system = True
        result.notices.append("ssl=true is read as sslmode=verify-full with the system's certificate authorities")
        return
    if name == "ssl" and value.lower() in {"false", "0", "off"}:
        value = "disable"
    if value == "no-verify":
        result.notices.append("sslmode=no-verify is read as sslmode=require: encrypted, the server is not verified")
        value = "require"
    if value not in SSL_MODES:
        raise DatabaseUrlError(f"must be a URL whose sslmode is one of {', '.join(SSL_MODES)}")
    driver["sslmode"] = value


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


def _quoted(text: str) -> str:
    return quote(unquote(text), safe="")


def _check_ports(ports: Iterable[str]) -> None:
    if not all(port == "" or (port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535) for port in ports):
        raise DatabaseUrlError("must be a URL whose ports are numbers from 1 to 65535")

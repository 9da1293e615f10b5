"""Explain why a database cannot be used, without a secret; hosts are named only where there are several.

The driver's texts may repeat the URL with its password, so only the kind of a failure and its SQLSTATE are used.
"""

import re
import socket
import ssl

import asyncpg

from aitp_cp.database_url import DatabaseUrlError
from aitp_cp.db.connect import NoServer

# The first that matches.
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no response in time"),
    (socket.gaierror, "its host name does not resolve"),
    (ConnectionRefusedError, "nothing listens at its address"),
    (ssl.SSLCertVerificationError, "its TLS certificate cannot be verified; see sslmode and sslrootcert"),
    (ssl.SSLError, "the TLS handshake failed"),
    (FileNotFoundError, "the socket, or a file that the URL names, does not exist"),
    (PermissionError, "a file that the URL names cannot be read"),
    (
        asyncpg.exceptions.TargetServerAttributeNotMatched,
        "not what target_session_attrs asks for: a standby",
    ),
    (asyncpg.exceptions.ClientConfigurationError, "a value in its URL cannot be used, such as a certificate file"),
)
_STATES = {
    "08P01": "a pooler in between refuses the connection",
    "25006": "it takes no writes: a standby, or default_transaction_read_only is on",
    "28P01": "it refuses the password or the role",
    "28000": "it refuses the role",
    "3D000": "the server has no database of that name",
    "42501": "the role lacks a right",
    "42704": "it does not know a parameter that the URL sends, or a role that it names",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no connection left",
    "55000": "the database accepts no connections now",
    "55P03": "a lock was held for too long; see pg_locks",
    "57014": "the statement took too long, or was cancelled",
    "57P01": "it was told to end the connection",
    "57P02": "it has crashed",
    "57P03": "it is starting or stopping",
    "22023": "a parameter in the URL has a value that the server refuses",
    "42P01": "a table is missing",
}
_NO_RULE = "no rule of its pg_hba.conf admits this address, role and database"
_STARTUP_PARAMETER = re.compile(r"unsupported startup parameter: ([a-z_]+)")


def reason(failure: BaseException | None) -> str:
    """Return the reason for a log or a table; a wrapped failure is explained by its cause."""
    failure = _cause(failure)
    if failure is None:
        return "the connection was lost"
    if isinstance(failure, DatabaseUrlError):
        return f"DATABASE_URL {failure}"
    if isinstance(failure, NoServer):
        return "; ".join(f"{host}: {reason(of_host)}" for host, of_host in failure.failures)
    text = _of_the_server(failure) if _is_from_the_server(failure) else _of_the_connection(failure)
    kind = type(failure).__name__
    return f"{text} ({kind})" if text else kind


def sentence(failure: BaseException | None) -> str:
    """Return the reason after "cannot be reached: ", or after "refuses: " when the server itself answered."""
    cause = _cause(failure)
    return f"{'refuses' if cause is not None and _is_from_the_server(cause) else 'cannot be reached'}: {reason(cause)}"


def _cause(failure: BaseException | None) -> BaseException | None:
    while failure is not None and failure.__cause__ is not None and not _is_final(failure):
        failure = failure.__cause__
    return failure


def _is_final(failure: BaseException) -> bool:
    """Return whether its cause says no more: that of a timeout is only the cancellation."""
    return isinstance(failure, TimeoutError) or _is_from_the_server(failure)


def _is_from_the_server(failure: BaseException) -> bool:
    return isinstance(failure, asyncpg.PostgresError) and failure.sqlstate is not None


def _of_the_server(failure: BaseException) -> str:
    state, text = str(getattr(failure, "sqlstate", "")), str(failure)
    if state == "28000" and "pg_hba.conf" in text:
        return f"{_NO_RULE}; try sslmode=require" if "no encryption" in text else _NO_RULE
    if match := _STARTUP_PARAMETER.search(text):
        return f"a pooler in between refuses the startup parameter {match[1]}: add it to its ignore_startup_parameters"
    return _STATES.get(state, "")


def _of_the_connection(failure: BaseException) -> str:
    if isinstance(failure, ConnectionError) and "SSL upgrade" in str(failure):
        return "it does not offer TLS; see sslmode"
    return next((sentence for kind, sentence in _KINDS if isinstance(failure, kind)), "")

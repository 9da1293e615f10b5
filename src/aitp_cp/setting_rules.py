"""Rules for the values of settings: hosts and origins as browsers write them, secrets that can be guessed.

A value that can never match is refused. Values are normalised as browsers do. No message repeats a value.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from yarl import URL

MIN_KEY_CHARACTERS = 20
MIN_DISTINCT_CHARACTERS = 8
QUOTED = "in quotes, and env files pass quotes on: remove them"
NO_ORIGIN = "must be an origin such as https://console.example, without a path"
ANY = "*"
QUOTES = ("'", '"')

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_MAX_NAME = 253
# A host as `Host` names it, without a port, or `.suffix`.
_KNOWN_HOST = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]?\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_ORIGIN = re.compile(r"https?://[^/\s?#@]+/?\Z", re.IGNORECASE)
# Left in values that were copied from documentation.
_PLACEHOLDER = re.compile(r"change.?(me|this)|replace.?(me|this)|example|placeholder|your.?(api|secret|key|seed)", re.I)
DIGEST_PREFIX = "sha256:"
HEX_64 = re.compile(r"[0-9A-Fa-f]{64}\Z")


def is_quoted(text: str) -> bool:
    """Return whether quotes enclose the text; some programs remove the quotes of an env file, others keep them."""
    return len(text) > 1 and text[0] in QUOTES and text[-1] == text[0]


def listed(text: object) -> object:
    """Return the parts of a comma-separated list, without white space around them; a default is no text."""
    if not isinstance(text, str):
        return text
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if any(map(is_quoted, parts)):
        raise ValueError(f"holds an entry {QUOTED}")
    return parts


def pairs(text: str) -> dict[str, str]:
    """Return the parts `name=value` of a comma-separated list; a name may hold `=`, as an LDAP name does."""
    entries = [part.rpartition("=") for part in text.split(",") if part.strip()]
    if not all(name.strip() and value.strip() for name, _, value in entries):
        raise ValueError("must be a list of pairs such as sre=operator")
    return {name.strip(): value.strip().lower() for name, _, value in entries}


def weakness(secret: str) -> str | None:
    """Return why this secret can be guessed, or None."""
    if len(secret) < MIN_KEY_CHARACTERS:
        return f"has fewer than {MIN_KEY_CHARACTERS} characters"
    if len(set(secret)) < MIN_DISTINCT_CHARACTERS:
        return f"has fewer than {MIN_DISTINCT_CHARACTERS} different characters"
    return "is an example from documentation" if _PLACEHOLDER.search(secret) else None


def key_digest(entry: str) -> bytes:
    """Return the SHA-256 of a key of `API_KEYS`, which may be written as `sha256:<64 hex>`; raises `ValueError`."""
    if not _is_digest(entry):
        return hashlib.sha256(entry.encode()).digest()
    if not HEX_64.match(entry[len(DIGEST_PREFIX) :]):
        raise ValueError(f"holds an entry with {DIGEST_PREFIX} and not 64 hex digits after it")
    return bytes.fromhex(entry[len(DIGEST_PREFIX) :])


def weak_keys(keys: Sequence[str]) -> str | None:
    """Return the number of the first key that can be guessed, and why, or None. A digest cannot be judged."""
    for number, key in enumerate(keys, 1):
        if not _is_digest(key) and (reason := weakness(key)):
            return f"key {number} of {len(keys)} {reason}"
    return None


def _is_digest(entry: str) -> bool:
    """Ignore case: taken for a plain key, a digest would lock out the real key."""
    return entry[: len(DIGEST_PREFIX)].lower() == DIGEST_PREFIX


def seed_weakness(seed: str) -> str | None:
    """Return why a hex seed is not random, or None; 32 random bytes hold about 30 different values."""
    return "repeats itself" if len(set(bytes.fromhex(seed))) <= MIN_DISTINCT_CHARACTERS else None


def is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its message would repeat the URL
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def host_name(text: str) -> str:
    """Return the host in lower-case ASCII, or an address in canonical form without brackets. Raise `ValueError`."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        if bare != text:
            raise ValueError("must be a host") from None
    try:
        name = (URL.build(scheme="http", host=text).raw_host or "").lower().removesuffix(".")
    except ValueError:
        name = ""
    labels = name.split(".")
    if len(name) > _MAX_NAME or not all(map(_LABEL.match, labels)) or labels[-1].isdecimal():
        raise ValueError("must be a host")
    return name


def host_pattern(text: str) -> str:
    """Return a host, or `.suffix` for all names below it. Raise `ValueError`."""
    if text.startswith("."):
        return f".{host_name(text[1:])}"
    name = host_name(text)
    return f"[{name}]" if ":" in name else name


def host_patterns(texts: tuple[str, ...]) -> tuple[str, ...]:
    message = "must be a list of hosts such as hooks.example or .example, without ports"
    return tuple(_checked(host_pattern, text, message) for text in texts)


def known_hosts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return host names, `.suffix` or `*`, in lower case. Raise `ValueError`."""
    if any(text != ANY and not _KNOWN_HOST.match(text) for text in texts):
        raise ValueError("must be `*` or a list of host names such as cp.example or .example, without ports")
    return tuple(text.lower() for text in texts)


def header_name(text: str) -> str:
    if not _HEADER.match(text):
        raise ValueError("must be the name of a header such as CF-Connecting-IP")
    return text


def origins(texts: tuple[str, ...]) -> tuple[str, ...]:
    message = "must be `*` or a list of origins such as https://console.example, without paths"
    return tuple(text if text == ANY else _checked(origin, text, message) for text in texts)


def origin(text: str) -> str:
    """Return the origin as a browser sends it: lower-case ASCII without a default port. Raise `ValueError`."""
    if not _ORIGIN.match(text):
        raise ValueError(NO_ORIGIN)
    try:
        url = URL(text)
        name, port = host_name(url.host or ""), url.explicit_port
    except ValueError:
        raise ValueError(NO_ORIGIN) from None
    shown = f"[{name}]" if ":" in name else name
    default = {"http": 80, "https": 443}[url.scheme]
    return f"{url.scheme}://{shown}" if port in {None, default} else f"{url.scheme}://{shown}:{port}"


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of a list. Raise `ValueError`, also for bits set beyond the prefix."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be a list of networks such as 10.0.0.0/8, without bits beyond the prefix") from None


def listening_address(text: str) -> str:
    """Return an address or name to listen on, `[::1]` without brackets. Raise `ValueError`."""
    try:
        zone = text.strip("[]").partition("%")
        address = ip_address(zone[0])
        return str(address) + (f"%{zone[2]}" if zone[1] and isinstance(address, IPv6Address) else "")
    except ValueError:
        return _checked(host_name, text, "must be an address such as 0.0.0.0 or ::, or a host name, without a port")


def _checked(rule: Callable[[str], str], text: str, message: str) -> str:
    """Apply a rule; its `ValueError` gets this message."""
    try:
        return rule(text)
    except ValueError:
        raise ValueError(message) from None


def contradictions(
    base_url: str, console_origin: str | None, oidc_issuer: str | None, oidc_client_id: str | None
) -> Iterator[str]:
    """Yield a message for each conflict between settings of the console."""
    if console_origin is not None and urlsplit(console_origin).hostname == urlsplit(base_url).hostname:
        yield "CONSOLE_ORIGIN: needs a host name other than that of CP_BASE_URL, where the API answers"
    if oidc_issuer is not None and oidc_client_id is None:
        yield "OIDC_CLIENT_ID: is required with OIDC_ISSUER"
    if oidc_issuer is not None and find_spec("authlib") is None:
        yield "OIDC_ISSUER: needs the extra `oidc` of this distribution, which is not installed"


def read_variable(environ: Mapping[str, str], name: str, problems: list[str]) -> str | None:
    """Return the value of a variable or of the file that `<NAME>_FILE` names. Append errors to `problems`."""
    value, path = environ.get(name, "").strip(), environ.get(f"{name}_FILE", "").strip()
    if value and path:
        problems.append(f"{name}: is set together with {name}_FILE")
        return None
    if is_quoted(path):
        problems.append(f"{name}_FILE: is {QUOTED}")
        return None
    try:
        value = Path(path).read_text(encoding="utf-8").strip() if path else value
    except (OSError, ValueError):
        problems.append(f"{name}_FILE: names a file that cannot be read")
        return None
    if is_quoted(value):
        problems.append(f"{name}: is {QUOTED}")
        return None
    if not value.isprintable():
        problems.append(f"{name}: must be one line of text without control characters")
        return None
    return value or None

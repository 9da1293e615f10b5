"""If-None-Match (RFC 9110, section 13.1.2)."""

import re
from collections.abc import Iterable

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def matches(headers: Iterable[str], etag: str) -> bool:
    """Return whether any If-None-Match line names `etag`, compared weakly, or is `*`."""
    return any(line.strip() == "*" or etag in _TAG.findall(line) for line in headers)

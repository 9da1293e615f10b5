"""Tracebacks without secrets, for the commands and the server."""

import re
import traceback

# Parts of a database driver's message that quote rows and arguments, which may be secrets.
_QUOTED = (
    (
        re.compile(r"^DETAIL:.*?(?=^HINT:|^\S+Error|^Traceback|^During|^The above|\Z)", re.M | re.S),
        "DETAIL: withheld\n",
    ),
    (re.compile(r"(invalid input for query argument \$\d+).*$", re.M), r"\1"),
)


def format_traceback(failure: BaseException | None) -> str:
    """Return the traceback without local variables, and without what a database quotes of its rows."""
    text = "".join(traceback.format_exception(failure)).rstrip("\n")
    for pattern, replacement in _QUOTED:
        text = pattern.sub(replacement, text)
    return text

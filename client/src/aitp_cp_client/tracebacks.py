"""Tracebacks as they may be shown and logged, by the commands and by the server."""

import re
import traceback

# A database driver quotes rows and arguments in these parts of its messages, and any of them may be a secret.
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

"""Exit codes of the commands; scripts rely on the numbers (docs/cli.md)."""

REFUSED = 1
USAGE = 2
NOT_FOUND = 3
NOT_ALLOWED = 4
UNAVAILABLE = 5
UNVERIFIED = 6
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
# 128 plus the number of the signal, as in a shell.
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

LEGEND = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not found, 4 key missing, wrong or not allowed, "
    "5 unreachable or unavailable, 6 not verified."
)

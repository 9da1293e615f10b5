"""Times: UTC as text, with the moment for the script, which can show the reader's own zone."""

from datetime import UTC, datetime

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from aitp_cp.console.parts.text import NONE

_STEPS = ((3600, 60, "min"), (86_400, 3600, "h"), (float("inf"), 86_400, "d"))


def time(value: datetime | str | None) -> Markup:
    """Return a moment to the millisecond."""
    moment = moment_of(value)
    if moment is None:
        return NONE
    text = moment.isoformat(" ", "milliseconds")[:23]
    return Markup(f'<time data-time="{_millis(moment)}">{text}</time>')


@pass_context
def ago(context: Context, value: datetime | str | None) -> Markup:
    """Return how far away a moment is; coarse below a minute, so that a region can stay the same."""
    moment = moment_of(value)
    if moment is None:
        return NONE
    secs = (context["frame"].now - moment).total_seconds()
    whole = moment.isoformat(" ", "seconds")[:19]
    attributes = f'datetime="{whole}Z" data-time="{_millis(moment)}" data-ago="" title="{whole} UTC"'
    return Markup(f"<time {attributes}>{distance(secs)}</time>")


def distance(secs: float) -> str:
    """Return a length of time in its largest unit: `3 h ago`, `in 25 d`, `now`."""
    size = abs(secs)
    if size < 60:
        return "now"
    unit, name = next((unit, name) for limit, unit, name in _STEPS if size < limit)
    return f"{int(size // unit)} {name} ago" if secs > 0 else f"in {int(size // unit)} {name}"


def moment_of(value: datetime | str | None) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return None if value is None else value.astimezone(UTC)


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

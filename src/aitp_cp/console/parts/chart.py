"""Charts as SVG: no script, no style, each bar a link."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

WIDTH, HEIGHT = 8, 60


class Bar(msgspec.Struct, frozen=True):
    """One bar: `bad` is the part of `value` that is drawn as bad; `url` is where it leads, made by `link`."""

    label: str
    value: int
    bad: int
    url: str


def bars(points: Sequence[Bar], label: str) -> Markup:
    """Return a bar chart of at least one bar; `label` says what it shows to who cannot see it."""
    top = max(point.value for point in points) or 1
    drawn = Markup("").join(_bar(index, point, top) for index, point in enumerate(points))
    return Markup(
        '<svg class="bars" viewBox="0 0 {} {}" preserveAspectRatio="none" role="group" aria-label="{}">{}</svg>'
    ).format(len(points) * WIDTH, HEIGHT, label, drawn)


def _bar(index: int, point: Bar, top: int) -> Markup:
    whole = round(point.value * HEIGHT / top, 1)
    bad = round(point.bad * HEIGHT / top, 1)
    label = f"{point.label}: {point.value:,}" + (f", {point.bad:,} failed" if point.bad else "")
    rects = Markup('<rect class="hit" x="{}" y="0" width="{}" height="{}"/>').format(index * WIDTH, WIDTH, HEIGHT)
    for kind, low, high in (("bad", 0.0, bad), ("good", bad, whole)):
        if high > low:
            rects += Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                kind, index * WIDTH + 1, round(HEIGHT - high, 1), WIDTH - 1, round(high - low, 1)
            )
    return Markup('<a href="{}" aria-label="{}"><title>{}</title>{}</a>').format(point.url, label, label, rects)


def spark(values: Sequence[float]) -> Markup:
    """Return a small line of two values or more, without a scale."""
    top = max(values) or 1
    step = 60 / (len(values) - 1)
    points = " ".join(f"{index * step:.1f},{15 - 14 * value / top:.1f}" for index, value in enumerate(values))
    return Markup('<svg class="spark" viewBox="0 0 60 16" aria-hidden="true"><polyline points="{}"/></svg>').format(
        points
    )

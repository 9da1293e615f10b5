"""Who trusts whom as SVG: columns are the layout, each node is a link, and nothing needs a script."""

from collections.abc import Mapping, Sequence

import msgspec
from markupsafe import Markup

from aitp_cp.console.parts.ids import short
from aitp_cp_client.wire.visible import escaped

NODE_WIDTH, NODE_HEIGHT = 180, 30
COLUMN, ROW = 290, 38
MAX_LABEL, MAX_SUB = 20, 28  # characters; more would leave the box
LOOP = 48  # how far a line leaves a column that it comes back to


class Node(msgspec.Struct, frozen=True):
    """An agent: the name it claims, its state, and where it leads, made by `link`."""

    aid: str
    name: str | None
    status: str | None
    url: str
    middle: bool = False


class Line(msgspec.Struct, frozen=True):
    """Trust from one agent to another: `count` tokens or delegations, of which `verified` were signed."""

    source: str
    target: str
    count: int
    verified: int
    delegated: bool = False


Place = tuple[int, float]


def graph(columns: Sequence[Sequence[Node]], lines: Sequence[Line], label: str) -> Markup:
    """Return the picture; an agent that stands in several columns is drawn in the first, and a line needs both ends."""
    rows = max(map(len, columns))
    places: dict[str, Place] = {}
    nodes = []
    for index, column in enumerate(columns):
        fresh = [node for node in column if node.aid not in places]
        top = (rows - len(fresh)) * ROW / 2
        for row, node in enumerate(fresh):
            places[node.aid] = (index * COLUMN, top + row * ROW)
            nodes.append(_node(node, *places[node.aid]))
    drawn = Markup("").join(_line(line, places) for line in lines if line.source in places and line.target in places)
    width, height = (len(columns) - 1) * COLUMN + NODE_WIDTH + LOOP, rows * ROW + 2
    return Markup(
        '<svg class="graph" width="{0}" height="{1}" viewBox="-1 -1 {0} {1}" role="group" aria-label="{2}">{3}{4}</svg>'
    ).format(width, height, label, drawn, Markup("").join(nodes))


def _node(node: Node, x: float, y: float) -> Markup:
    name = escaped(node.name or "")
    label = " ".join(part for part in (name, escaped(node.aid), node.status or "never registered") if part)
    kind = "middle" if node.middle else node.status if node.status in {"contained", "active"} else "other"
    more = {None: "never registered", "contained": "✖ contained"}.get(node.status, "")
    upper, lower = (name, f"{short(node.aid)} {more}") if name else (short(node.aid), more)
    return Markup(
        '<a href="{}" aria-label="{}"><title>{}</title>'
        '<rect class="node {}" x="{}" y="{}" width="{}" height="{}" rx="5"/>'
        '<text x="{}" y="{}">{}</text><text class="sub" x="{}" y="{}">{}</text></a>'
    ).format(
        *(node.url, label, label, kind, x, y, NODE_WIDTH, NODE_HEIGHT),
        *(x + 8, y + 13, _cut(escaped(upper)), x + 8, y + 25, _cut(escaped(lower), MAX_SUB)),
    )


def _cut(text: str, limit: int = MAX_LABEL) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _line(line: Line, places: Mapping[str, Place]) -> Markup:
    (x1, y1), (x2, y2) = places[line.source], places[line.target]
    y1, y2 = y1 + NODE_HEIGHT / 2, y2 + NODE_HEIGHT / 2
    kind = "delegated" if line.delegated else "verified" if line.verified else "claimed"
    if x1 < x2:
        x1, x2 = x1 + NODE_WIDTH, x2 - 6
        bend = (x1 + x2) / 2
        path = f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}"
        head = f"M{x2 + 6} {y2}l-8 -4v8z"
        share = 0.25 if x1 < COLUMN else 0.75  # where lines that meet in the middle are still apart
        label_x, label_y = (x1 + (x2 - x1) * share, y1 + (y2 - y1) * (3 * share**2 - 2 * share**3) - 3)
    else:  # beside or behind: around the right of both
        x1, x2 = x1 + NODE_WIDTH, x2 + NODE_WIDTH
        out = max(x1, x2) + LOOP
        path = f"M{x1} {y1}C{out} {y1} {out} {y2} {x2 + 6} {y2}"
        head = f"M{x2} {y2}l8 -4v8z"
        label_x, label_y = (out - LOOP / 4, (y1 + y2) / 2)
    return Markup(
        '<g class="line {0}"><path d="{1}"/><path class="head" d="{2}"/><text x="{3}" y="{4}">{5}</text></g>'
    ).format(kind, path, head, round(label_x), round(label_y), f"{line.count:,}")

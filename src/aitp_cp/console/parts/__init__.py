"""What templates are made of: the only place that writes markup, and the only names that templates may call."""

from collections.abc import Callable, Mapping
from typing import Any

from aitp_cp.console.parts.chart import bars, spark
from aitp_cp.console.parts.graph import graph
from aitp_cp.console.parts.ids import aid, figure, ident
from aitp_cp.console.parts.link import link, own
from aitp_cp.console.parts.state import chip, state
from aitp_cp.console.parts.table import head, pager, table
from aitp_cp.console.parts.text import cli, count, json_text, text
from aitp_cp.console.parts.times import ago, time

GLOBALS: Mapping[str, Callable[..., Any]] = {
    part.__name__: part
    for part in (
        ago,
        aid,
        bars,
        chip,
        cli,
        count,
        figure,
        graph,
        head,
        ident,
        json_text,
        link,
        own,
        pager,
        spark,
        state,
        table,
        text,
        time,
    )
}

"""What templates are made of: the only place that writes markup, and the only names that templates may call."""

from collections.abc import Callable, Mapping
from typing import Any

from aitp_cp.console.parts.chart import bars, spark
from aitp_cp.console.parts.fields import between, choice, namespaces
from aitp_cp.console.parts.graph import graph
from aitp_cp.console.parts.ids import aid, ident, key, target
from aitp_cp.console.parts.link import link, own
from aitp_cp.console.parts.state import chip, chips, concern, state
from aitp_cp.console.parts.table import pager, table
from aitp_cp.console.parts.text import act, cli, count, curl, json_text, text
from aitp_cp.console.parts.times import ago, time

GLOBALS: Mapping[str, Callable[..., Any]] = {
    part.__name__: part
    for part in (
        act,
        ago,
        aid,
        bars,
        between,
        chip,
        chips,
        choice,
        cli,
        concern,
        count,
        curl,
        graph,
        ident,
        json_text,
        key,
        link,
        namespaces,
        own,
        pager,
        spark,
        state,
        table,
        target,
        text,
        time,
    )
}

"""What a page of the console offers to copy exists: commands with their options, requests with their parameters."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import typer
from jinja2 import nodes

from aitp_cp.app import ENDPOINTS
from aitp_cp.console.shell import environment
from aitp_cp.web.endpoint import Endpoint
from aitp_cp_client.commands.main import app as command_line
from tests.shape.test_templates import PAGES, source

# Pages whose forms the API has no part in: sign-in, sessions of browsers, saved views, the look of pages.
OF_THE_CONSOLE = {"base.html", "login.html", "me.html", "signed_in.html", "views.html"}
BULK = {"agents.html"}  # its form leads to a plan, whose page has the request
CALLS = [
    (page.name, call)
    for page in PAGES
    for call in environment(str).parse(source(page)).find_all(nodes.Call)
    if isinstance(call.node, nodes.Name) and call.node.name in ("act", "cli", "curl")
]


def texts(node: nodes.Node) -> Iterator[str]:
    """Yield what an argument may be."""
    if isinstance(node, nodes.CondExpr):
        yield from texts(node.expr1)
        if node.expr2 is not None:
            yield from texts(node.expr2)
    else:
        assert isinstance(node, nodes.Const)
        yield node.value


def endpoint_of(method: str, address: str) -> Endpoint:
    """Return the endpoint that a request goes to; an id in it is `{}`, ID or AID."""
    path = address.partition("?")[0]
    for endpoint in ENDPOINTS:
        pattern = re.sub(r"\{\w+\}", "(?:{}|A?ID)", endpoint.path)
        if endpoint.method == method and re.fullmatch(pattern, path):
            return endpoint
    raise AssertionError(f"there is no {method} {path}")


def members(shape: Any) -> set[str]:
    return set() if shape is None else {field.encode_name for field in msgspec.structs.fields(shape)}


def test_there_are_some() -> None:
    assert len(CALLS) > 50


@pytest.mark.parametrize(("page", "call"), CALLS)
def test_what_is_offered_exists(page: str, call: nodes.Call) -> None:
    kind = call.node.name  # type: ignore[attr-defined]
    given = {each.key for each in call.kwargs}
    for text in texts(call.args[1 if kind == "act" else 0]):
        if kind == "cli":
            exists_on_the_command_line(text, {f"--{name.replace('_', '-')}" for name in given})
        elif kind == "curl":
            assert given <= members(endpoint_of("GET", text).query), text
        else:
            assert given <= members(endpoint_of(*text.split(" ")).body), text


def exists_on_the_command_line(text: str, options: set[str]) -> None:
    program, *words = text.split(" ")
    if program != "aitp-cp":
        return
    command: Any = typer.main.get_command(command_line)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), text
    known = {name for option in command.params for name in option.opts}
    assert options | {word for word in words if word.startswith("--")} <= known, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_acts_says_how_a_program_does_it(page: Any) -> None:
    acts = 'method="post"' in source(page) and page.name not in OF_THE_CONSOLE | BULK
    assert not acts or any(name == page.name and call.node.name in ("act", "cli") for name, call in CALLS)  # type: ignore[attr-defined]

"""The console's templates: every name they use exists, and nothing in them can become markup, script or style."""

import hashlib
import importlib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
import pytest
from jinja2 import nodes

from aitp_cp.console.parts import GLOBALS
from aitp_cp.console.shell import NO_REGIONS, TEMPLATES, Frame, environment
from aitp_cp.console.static_files import FOLDER, vendored

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = environment(str)
PAGES = sorted(TEMPLATES.glob("*.html"))
IDS = [page.name for page in PAGES]
VIEW = re.compile(r"\A\{# view: ([\w.]+) #\}\n")
EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
TAG = re.compile(r"<[a-zA-Z][^<>]*>")
ATTRIBUTE = re.compile(r'\s+([a-zA-Z_:][\w:.-]*)(?:="([^"]*)")?')
ADDRESSES = {"href", "action", "formaction", "src", "data-next"}
MADE = re.compile(r"\{\{ (link|own|static)\(.*\) \}\}\Z", re.DOTALL)
FILTERS = {
    "length",
    "int",
    "join",
    "list",
    "first",
    "last",
    "sum",
    "upper",
    "round",
    "batch",
    "sort",
    "dictsort",
    "selectattr",
    "map",
    "reverse",
}
NAMES = {"view", "frame", "loop", "self", "static", "range", "super", "caller", "varargs"} | GLOBALS.keys()
MARKUP = re.compile(r"\bMarkup\b")


def source(page: Path) -> str:
    return page.read_text()


def plain(page: Path) -> list[tuple[str, str]]:
    """Return each tag of a template with its attributes, `{{ … }}` inside them kept; statements are taken out."""
    text = re.sub(r"\{#.*?#\}", "", source(page), flags=re.DOTALL)
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\x01{len(kept) - 1}\x02"

    text = re.sub(r"\{%.*?%\}", "", EXPRESSION.sub(keep, text), flags=re.DOTALL)
    tags = TAG.findall(text)
    return [(tag, re.sub(r"\x01(\d+)\x02", lambda number: kept[int(number[1])], tag)) for tag in tags]


def attributes(page: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield tag, attribute and value; fails on whatever is not a name, or a name with a quoted value."""
    for bare, whole in plain(page):
        inner = re.sub(r"\A<[a-zA-Z][\w-]*|/?>\Z", "", bare)
        rest = ATTRIBUTE.sub("", inner).strip()
        # What a statement puts between, such as `{% if %} selected{% endif %}`, is an attribute like any other.
        assert rest == "", f"{page.name}: {whole}"
        values = dict(re.findall(r'\s([a-zA-Z_:][\w:.-]*)="((?:\{\{.*?\}\}|[^"])*)"', whole, re.DOTALL))
        for name, value in ATTRIBUTE.findall(inner):
            yield whole, name.lower(), values.get(name, value)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_nothing_in_it_is_script_or_style(page: Path) -> None:
    for tag, name, value in attributes(page):
        assert name != "style", tag
        assert not name.startswith("on"), tag
        assert name not in {"srcdoc", "ping", "http-equiv"}, tag
        if name in ADDRESSES and not (value or "").startswith("#"):
            assert MADE.match(value or ""), f"{page.name}: {name} is made by link(), own() or static(): {tag}"
    names = {re.match(r"<([a-zA-Z]+)", tag)[1].lower() for _, tag in plain(page)}  # type: ignore[index]
    assert not names & {"style", "iframe", "object", "embed", "base"}
    for _, tag in plain(page):
        if tag.startswith("<script"):
            assert re.search(r'\ssrc="', tag)
            assert re.search(r'\snonce="', tag)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_nothing_in_it_is_taken_for_markup(page: Path) -> None:
    tree = ENVIRONMENT.parse(source(page))
    assert {each.name for each in tree.find_all(nodes.Filter)} <= FILTERS
    assert not list(tree.find_all((nodes.MarkSafe, nodes.MarkSafeIfAutoescape, nodes.ScopedEvalContextModifier)))
    assert not MARKUP.search(source(page))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_live_region_is_a_block_of_its_name(page: Path) -> None:
    text, regions = source(page), set()
    for tag, name, _ in attributes(page):
        if name != "data-live":
            continue
        (region,) = re.findall(r'\sid="([a-z]+)"', tag)
        block = f"{{% block {region} %}}"
        regions.add(region)
        before = text.partition(tag.partition("{")[0].partition(" data-live")[0])[0]
        assert before.rstrip().endswith(block), f"{page.name}: #{region} stands directly in {block}"
    assert {*ENVIRONMENT.get_template(page.name).blocks} <= NO_REGIONS | regions


# -- every attribute exists ------------------------------------------------------------------------------------------


class Unknown:
    """A value whose type nobody can tell: whatever is read of it passes."""


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_what_it_reads_exists(page: Path) -> None:
    known: dict[str, Any] = {"frame": Frame}
    if page.name != "base.html":
        found = VIEW.match(source(page))
        assert found, f"{page.name} begins with {{# view: module.Struct #}}"
        module, _, name = found[1].rpartition(".")
        known["view"] = getattr(importlib.import_module(module), name)
    Reader(page.name).read(ENVIRONMENT.parse(source(page)), known)


class Reader:
    """Follows types through a template, from the struct of its view."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, node: nodes.Node, known: dict[str, Any]) -> None:
        if isinstance(node, nodes.For):
            self.type_of(node.iter, known)
            inner = {**known, **self._targets(node.target, element(self.type_of(node.iter, known)))}
            for child in [*node.body, *([node.test] if node.test else [])]:
                self.read(child, inner)
            for child in node.else_:
                self.read(child, known)
        elif isinstance(node, nodes.Assign):
            known.update(self._targets(node.target, self.type_of(node.node, known)))
        elif isinstance(node, nodes.Macro):
            inner = {**known, **{argument.name: Unknown for argument in node.args}}
            known[node.name] = Unknown
            for child in node.body:
                self.read(child, inner)
        elif isinstance(node, nodes.CallBlock):  # what a part writes for each of the rows that it is given first
            self.type_of(node.call, known)
            rows = self.type_of(node.call.args[0], known)
            inner = {**known, **{each.name: element(rows) for each in node.args}}
            for child in node.body:
                self.read(child, inner)
        elif isinstance(node, nodes.AssignBlock):
            for child in node.body:
                self.read(child, known)
            known.update(self._targets(node.target, Unknown))
        elif isinstance(node, nodes.Expr):
            self.type_of(node, known)
        else:
            inner = dict(known) if isinstance(node, nodes.Block) else known
            for child in node.iter_child_nodes():
                self.read(child, inner)

    def type_of(self, node: nodes.Node, known: Mapping[str, Any]) -> Any:
        """Return the type of an expression; fails on a name or attribute that does not exist."""
        if isinstance(node, nodes.Name):
            assert node.name in known or node.name in NAMES, f"{self._name}:{node.lineno}: {node.name}"
            return known.get(node.name, Unknown)
        if isinstance(node, nodes.Getattr):
            return self._member(self.type_of(node.node, known), node)
        for child in node.iter_child_nodes():
            if isinstance(child, nodes.Expr | nodes.Keyword | nodes.Operand | nodes.Pair):
                self.type_of(child, known)
        if isinstance(node, nodes.Getitem):
            of = self.type_of(node.node, known)
            return of if isinstance(node.arg, nodes.Slice) else element(of)
        if isinstance(node, nodes.Filter) and node.name in {"sort", "list", "selectattr"} and node.node is not None:
            return self.type_of(node.node, known)
        return Unknown

    def _member(self, of: Any, node: nodes.Getattr) -> Any:
        bare, bound = strip(of)
        if not isinstance(bare, type) or bare is Unknown or bare is type(None):
            return Unknown
        if issubclass(bare, Mapping | Sequence) and not issubclass(bare, str):
            assert hasattr(bare, node.attr), f"{self._name}:{node.lineno}: {bare.__name__} has no {node.attr}"
            return _items(of) if node.attr == "items" else Unknown
        hints = typing.get_type_hints(bare, include_extras=False) if issubclass(bare, msgspec.Struct) else {}
        if node.attr in hints:
            return bound.get(hints[node.attr], hints[node.attr])
        member = getattr(bare, node.attr, None)
        assert member is not None, f"{self._name}:{node.lineno}: {bare.__name__} has no {node.attr}"
        if isinstance(member, property) and member.fget is not None:
            return typing.get_type_hints(member.fget).get("return", Unknown)
        return Unknown

    def _targets(self, target: nodes.Node, type: Any) -> dict[str, Any]:
        if isinstance(target, nodes.Name):
            return {target.name: type}
        if isinstance(target, nodes.NSRef):
            return {}
        assert isinstance(target, nodes.Tuple)
        arguments = get_args(type) if get_origin(type) is tuple else ()
        named = [each.name for each in target.items if isinstance(each, nodes.Name)]
        return dict(zip(named, [*arguments, *[Unknown] * len(named)], strict=False))


def strip(type: Any) -> tuple[Any, dict[TypeVar, Any]]:
    """Return the class of a type without None, and what its type variables stand for."""
    type = getattr(type, "__value__", type)
    if get_origin(type) in (Union, types.UnionType):
        rest = [one for one in get_args(type) if one is not types.NoneType and one is not msgspec.UnsetType]
        return strip(rest[0]) if len(rest) == 1 else (Unknown, {})
    origin = get_origin(type)
    if origin is typing.Annotated:
        return strip(get_args(type)[0])
    if origin is None:
        return type, {}
    return origin, dict(zip(getattr(origin, "__parameters__", ()), get_args(type), strict=False))


def element(of: Any) -> Any:
    """Return the type of a member of a list; of a tuple only if all its members are of one."""
    bare, _ = strip(of)
    arguments = _arguments(of)
    if not isinstance(bare, type) or not arguments or not issubclass(bare, Sequence | set | frozenset | Iterator):
        return Unknown
    return arguments[0] if bare is not tuple or arguments[-1] is Ellipsis else Unknown


def _arguments(of: Any) -> tuple[Any, ...]:
    if get_origin(of) in (Union, types.UnionType):
        rest = [one for one in get_args(of) if one is not types.NoneType]
        return _arguments(rest[0]) if len(rest) == 1 else ()
    return get_args(of)


def _items(of: Any) -> Any:
    return Unknown


def test_each_wrong_construct_is_found(tmp_path: Path) -> None:
    for wrong in (
        '<p style="color: red">',
        '<p onclick="x()">',
        "<p class=red>",
        '<a href="{{ view.url }}">',
        '<a href="javascript:alert(1)">',
        '<form action="/elsewhere">',
        "<script>x()</script>",
        "<iframe>",
    ):
        page = tmp_path / "wrong.html"
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            test_nothing_in_it_is_script_or_style(page)
    for wrong in ("{{ view.title|safe }}", "{% autoescape false %}{% endautoescape %}"):
        page.write_text(wrong)
        with pytest.raises(Exception):  # noqa: B017 - the second does not even parse
            test_nothing_in_it_is_taken_for_markup(page)
    for wrong in ("{{ view.nothing }}", "{{ nothing }}", "{% for row in view.rows %}{{ row.nothing }}{% endfor %}"):
        page.write_text("{# view: aitp_cp.console.pages.events.EventsView #}\n" + wrong)
        with pytest.raises(AssertionError):
            test_what_it_reads_exists(page)


# -- files ---------------------------------------------------------------------------------------------------------


def test_own_script_has_no_sink_but_the_one() -> None:
    own = {path.name: path.read_text() for path in FOLDER.glob("*.js") if path.name != "idiomorph.min.js"}
    text = "".join(own.values())
    assert not re.search(r"innerHTML|[^\"]outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    assert text.count("parseFromString") == text.count("createPolicy") == 1
    assert len(text.encode()) <= 24 * 1024
    assert sum(len(each.splitlines()) for each in own.values()) <= 600


def test_the_list_of_vendored_files_is_true() -> None:
    listed = {entry["file"]: entry for entry in vendored()}
    for name, entry in listed.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert all(entry[member] for member in ("name", "version", "licence", "source"))
    ours = {"console.js", "live.js", "console.css", "icon.svg", "VENDORED.toml"}
    assert {path.name for path in FOLDER.iterdir()} - ours == set(listed)

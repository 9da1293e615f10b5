"""A form that is shown again has what was typed into it: one way for every form of every page.

Hidden fields keep what the page has for them, such as a new plan. A password, and what has `autocomplete="off"` such as
a secret, is typed again.
"""

from collections.abc import Iterable, Iterator
from html import escape
from html.parser import HTMLParser
from itertools import accumulate

import msgspec

from aitp_cp.console.forms import Form

NOT_KEPT = frozenset({"hidden", "password"})
TICKED = frozenset({"checkbox", "radio"})


class Tag(msgspec.Struct):
    """A start tag and its place in the page; `closes` is where the end tag of a textarea begins."""

    name: str
    attributes: dict[str, str | None]
    start: int
    end: int
    closes: int = 0


class Field(msgspec.Struct):
    """What a person fills in, under the name of the `select` for an option; `form` is that around it, or its id."""

    tag: Tag
    name: str
    form: Tag | str | None


class Edit(msgspec.Struct, order=True):
    """What replaces a part of the page."""

    start: int
    end: int
    text: str


def put_back(page: str, form: Form, path: str) -> str:
    """Return the page with the form's fields in each form that is sent to `path`, and what folds those away open."""
    reader = _Reader(page)
    forms = [(tag, folds) for tag, folds in reader.forms if _posts_to(tag) == path]
    owners = [tag for tag, _ in forms] + [tag.attributes.get("id") for tag, _ in forms]
    fields = [field for field in reader.fields if field.form is not None and field.form in owners]
    edits = [*_filled(fields, form), *(_with(fold, {"open": None}) for _, folds in forms for fold in folds)]
    pieces, done = [], 0
    for edit in sorted(edits):
        if edit.start >= done:  # two forms in one fold open it once
            pieces += [page[done : edit.start], edit.text]
            done = edit.end
    return "".join((*pieces, page[done:]))


def _posts_to(form: Tag) -> str | None:
    """Return the path that the form acts on; None for one that only asks."""
    address = form.attributes.get("action") or ""
    return address.partition("?")[0] if form.attributes.get("method") == "post" else None


def _filled(fields: Iterable[Field], form: Form) -> Iterator[Edit]:
    for field in fields:
        values, attributes = form.all(field.name), field.tag.attributes
        kind = attributes.get("type") or "text"
        if kind in NOT_KEPT or attributes.get("autocomplete") == "off":
            continue
        if field.tag.name == "textarea":
            if values:  # the first line end of a textarea is not part of it
                yield Edit(field.tag.end, field.tag.closes, f"\n{escape(values[0])}")
        elif field.tag.name == "option" or kind in TICKED:
            mark = "selected" if field.tag.name == "option" else "checked"
            chosen = attributes.get("value", "on") in values
            yield _with(field.tag, {mark: None}) if chosen else _with(field.tag, {}, without=mark)
        elif values:
            yield _with(field.tag, {"value": values[0]})


def _with(tag: Tag, attributes: dict[str, str | None], *, without: str = "") -> Edit:
    """Return the tag with other attributes; None is one without a value."""
    kept = {name: value for name, value in tag.attributes.items() if name != without} | attributes
    written = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in kept.items())
    return Edit(tag.start, tag.end, f"<{tag.name}{written}>")


class _Reader(HTMLParser):
    """Finds forms, with what folds them away, and fields. The page is ours, so every tag is closed and quoted."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[tuple[Tag, tuple[Tag, ...]]] = []
        self.fields: list[Field] = []
        self._lines = [0, *accumulate(len(line) + 1 for line in page.split("\n"))]
        self._folds: list[Tag] = []
        self._form: Tag | None = None
        self._list = ""  # the name of the select
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        start = self._place()
        element = Tag(tag, dict(attrs), start, start + len(self.get_starttag_text() or ""))
        if tag == "form":
            self._form = element
            self.forms.append((element, tuple(self._folds)))
        elif tag == "details":
            self._folds.append(element)
        elif tag == "select":
            self._list = element.attributes.get("name") or ""
        elif tag in ("input", "textarea", "option"):
            name = self._list if tag == "option" else element.attributes.get("name") or ""
            self.fields.append(Field(element, name, element.attributes.get("form") or self._form))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "details":
            self._folds.pop()
        elif tag == "select":
            self._list = ""
        elif tag == "textarea":
            self.fields[-1].tag.closes = self._place()

    def _place(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

"""States: a glyph and a word, never a colour alone."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from markupsafe import Markup, escape

from aitp_cp.console.parts.text import strings, visible

GLYPHS = {"good": "✔", "soon": "▲", "bad": "✖", "none": "–"}
LEVELS = {
    "good": "active complete delivered ok closed signed live verified current success ready running confirmed on",
    "soon": "pending started half_open half-open expiring unverifiable older paused due waiting late unowned claimed",
    "bad": "failed revoked open contained forged invalid expired down error refused dead conflict unsigned",
}
_LEVEL = {word: level for level, words in LEVELS.items() for word in words.split()}


def state(word: object, level: str | None = None) -> Markup:
    """Return a state by its word; `level` is `good`, `soon`, `bad` or `none`, where the word does not say it."""
    shown = "unknown" if word is None else str(word)
    level = level or _LEVEL.get(shown, "none")
    glyph = f'<span aria-hidden="true">{GLYPHS[level]}</span>'
    return Markup(f'<span class="state {level}">{glyph} {visible(shown[:40])}</span>')


# What needs attention, by the kind that the API calls it.
CONCERNS = {
    "breaker": "breaker open",
    "clock": "clock",
    "containment": "containment",
    "database": "database",
    "deliveries": "deliveries",
    "environment-keys": "keys of API_KEYS",
    "expiring": "manifests",
    "failures": "handshakes",
    "job": "job",
    "keys": "API keys",
    "list": "signed list",
    "lookalike": "look-alike name",
    "outbox": "deliveries",
    "signer": "identity",
    "tail": "log",
    "unowned": "no owner",
    "unsigned": "signed list",
}


def concern(kind: str, level: str) -> Markup:
    """Return what a line of what needs attention is about, in a person's words."""
    return state(CONCERNS.get(kind, kind), level)


@lru_cache(maxsize=1024)
def chip(word: object, level: str = "none") -> Markup:
    """Return a small label: a grant, a scope, a filter that is set."""
    return Markup(f'<span class="chip {escape(level)}">{visible(str(word)[:60])}</span>')


def chips(words: Sequence[object] | msgspec.Raw, most: int = 3, *, empty: str = "") -> Markup:
    """Return the first of several labels, such as those of a stored array, and how many more there are."""
    words = strings(words) if isinstance(words, msgspec.Raw) else words
    more = f"+{len(words) - most:,}" if len(words) > most else ""
    return Markup(" ").join([*map(chip, words[:most]), more]) if words else Markup(escape(empty))

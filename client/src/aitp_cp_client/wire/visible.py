"""Which characters of a text can be seen, so that none in a name somebody else chose goes unnoticed."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

# Printable by Unicode's categories, and drawn as nothing: joiners, fillers, selectors, an empty braille cell.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


class Piece(NamedTuple):
    """A run of characters that can be seen, or one that cannot, as its code point (`U+202E`)."""

    text: str
    unseen: bool


def is_visible(char: str) -> bool:
    """Return whether a character shows: no control, format, unassigned or private one, no blank but the space."""
    return char.isprintable() and not _BLANK.match(char)


def all_visible(text: str) -> bool:
    """Return whether nothing in a text is invisible."""
    return text.isprintable() and not _BLANK.search(text)


def pieces(text: str) -> Iterator[Piece]:
    """Yield the text cut into what can be seen and what cannot."""
    if all_visible(text):
        yield Piece(text, False)
        return
    for visible, run in groupby(text, is_visible):
        if visible:
            yield Piece("".join(run), False)
        else:
            yield from (Piece(f"U+{ord(char):04X}", True) for char in run)


def escaped(text: str) -> str:
    """Return the text for a terminal: every invisible character as a backslash escape."""
    return "".join(char if is_visible(char) else char.encode("unicode_escape").decode() for char in text)

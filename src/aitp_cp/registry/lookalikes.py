"""Which display names look alike: skeletons and scripts as in Unicode Technical Standard 39."""

import unicodedata
from functools import lru_cache

from confusable_homoglyphs.categories import unique_aliases
from confusable_homoglyphs.confusables import confusables_data

from aitp_cp.protocol.manifest import MAX_DISPLAY_NAME

MAX_SKELETON = 256  # characters; a character can become eighteen, and an index takes 2,700 bytes

_MARKS = "\u200e"  # the table puts these around characters of scripts that run from right to left
# Characters that show nothing and are not formats (Cf): fillers, joiners of graphemes, variation selectors.
_UNSEEN = {
    *map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0)),
    *map(chr, range(0x180B, 0x1810)),
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}
_HAN = {"HAN", "LATIN"}
# Scripts that one language writes together, and no others.
_TOGETHER = ({*_HAN, "HIRAGANA", "KATAKANA"}, {*_HAN, "HANGUL"}, {*_HAN, "BOPOMOFO"})


def skeleton(name: str) -> str:
    """Return what names that look the same have in common; the case of letters makes no difference.

    Characters are replaced before case goes, for a capital I looks like an l, and after, for an m looks like rn.
    """
    # No name is longer; a filter may be, and sorting its accents would hold up the loop.
    seen = "".join(char for char in unicodedata.normalize("NFD", name[:MAX_DISPLAY_NAME]) if _is_seen(char))
    replaced = _replaced(_replaced(seen).casefold())
    return unicodedata.normalize("NFD", replaced)[:MAX_SKELETON]


@lru_cache(maxsize=4096)
def mixes_scripts(name: str) -> bool:
    """Return whether letters of scripts occur together that no language writes together."""
    scripts = unique_aliases(name) - {"COMMON", "INHERITED", "Unknown"}
    return len(scripts) > 1 and not any(scripts <= allowed for allowed in _TOGETHER)


def _is_seen(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cf"} and char not in _UNSEEN


def _replaced(text: str) -> str:
    return "".join(_PROTOTYPES.get(char, char) for char in text)


def _prototypes() -> dict[str, str]:
    """Return what stands for each character.

    The table names each pair in both directions. A character that is one of many has the one they share; of two that
    have only each other, the longer text stands for both, or the first one.
    """
    prototypes = {}
    for char, alike in confusables_data.items():
        key = char.strip(_MARKS)
        other = alike[0]["c"]
        if len(alike) > 1 or len(key) != 1:
            continue
        shared = len(confusables_data[other]) > 1
        if shared or (-len(other), other) < (-len(char), char):
            prototypes[key] = other.strip(_MARKS)
    return prototypes


_PROTOTYPES = _prototypes()

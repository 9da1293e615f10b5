"""JSON in formats that are framed by lines: server-sent events and files with an object per line."""

# What some reader takes for the end of a line. Valid JSON holds these characters in strings alone, where an escape
# says the same; the other such characters (VT, FF, a lone CR, …) are below U+0020, and always escaped.
_LINE_ENDS = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


def one_line(text: bytes) -> bytes:
    """Return compact JSON text as a line that no reader splits."""
    if not text.isascii():
        for raw, escaped in _LINE_ENDS:
            text = text.replace(raw, escaped)
    return text

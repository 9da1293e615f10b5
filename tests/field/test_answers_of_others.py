"""What servers that somebody else runs answer: the status alone decides, and the rest is bounded and said in words."""

import gzip
import ssl
import zlib
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from aitp_cp.outbound import GuardedClient, Policy, Refused, Reply, Unreachable
from aitp_cp.outbound.codings import Undecodable, decoded
from aitp_cp.outbound.http1 import MAX_FIELDS, NotHttp, Response
from aitp_cp.outbound.model import Address
from aitp_cp.outbound.policy import check_url
from aitp_cp.outbound.tls import verifying
from tests.deliveries.support import LOCAL, attempted, delivering, report, subscribe
from tests.support.app import AUTH, running_app
from tests.support.certificates import server_certificate
from tests.support.receiver import Answer as Says
from tests.support.receiver import receiver

pytestmark = pytest.mark.anyio

LOOPBACK = Policy(False, (), (ip_network("127.0.0.0/8"),))
LIMIT = 64 * 1024

ODD = {
    "a 9 kB header line": b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 9000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "150 header lines": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(150)) + b"\r\nok",
    "more header lines than are read": b"HTTP/1.1 200 OK\r\n" + b"X-One: 1\r\n" * (MAX_FIELDS // 5),
    "Content-Length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "two Content-Lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "Content-Length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nok",
    "204 with a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "204 with Transfer-Encoding": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a garbage chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "a chunk without its end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "an empty header name": b"HTTP/1.1 200 OK\r\n: nothing\r\nContent-Length: 2\r\n\r\nok",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnothing\r\n folded: too\r\n\r\nok",
    "a header that is no text": b"HTTP/1.1 200 OK\r\nX-One: \xff\x00\x01\r\nContent-Length: 2\r\n\r\nok",
    "no reason phrase": b"HTTP/1.1 200\r\n\r\nok",
    "bare line feeds": b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok",
    "the end in the middle of the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "interim answers first": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 202 OK\r\n\r\n",
}


async def nowhere_but_here(_: str) -> list[Address]:
    return [ip_address("127.0.0.1")]


async def post(client: GuardedClient, url: str) -> Reply:
    return await client.send("POST", url, headers={}, body=b"{}", deadline_secs=10, max_bytes=LIMIT)


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
async def test_once_a_status_line_has_arrived_it_is_the_answer(raw: bytes) -> None:
    """Row 11: such answers were "not valid HTTP": six sends, and an open breaker."""
    async with receiver(Says(raw=raw)) as there:
        assert 200 <= (await post(GuardedClient(LOOPBACK), there.url)).status < 300


async def test_an_odd_answer_is_a_delivery(database_url: str) -> None:
    """Row 11: in the delivery log it is delivered at the first attempt; what it asks for is heard all the same."""
    async with receiver(Says(raw=ODD["a 9 kB header line"])) as there, delivering(database_url) as app:
        hook = await subscribe(app, there.url)
        await report(app)
        row = await attempted(app, hook, 1)
        assert (row["status"], row["statusCode"]) == ("delivered", 200)
        busy = b"HTTP/1.1 503 Busy\r\n: \r\nRetry-After: 3600\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"
        there.behave = lambda _: Says(raw=busy)
        await report(app)
        row = await attempted(app, hook, 1)
        assert (row["status"], row["statusCode"]) == ("pending", 503)
        again, made = (datetime.fromisoformat(row[name]) for name in ("nextRetryAt", "createdAt"))
        assert again - made > timedelta(minutes=50)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_how_an_answer_is_cut_into_pieces_changes_nothing(size: int) -> None:
    """Row 11: a body in chunks of many sizes, byte by byte or at once; whole or not is told apart."""
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (n, b"x" * n) for n in (1, 15, 16, 4096))
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: 1\r\n\r\n"
    response = Response(LIMIT)
    for start in range(0, len(raw), size):
        if not response.done:
            response.feed(raw[start : start + size])
    assert (response.done, response.complete, bytes(response.body)) == (True, True, b"x" * (1 + 15 + 16 + 4096))


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH\r\n", b"\x15\x03\x01\x00\x02", b"HTTP/2 200\r\n", b"x" * 10_000])
def test_what_is_no_status_line_is_no_answer(raw: bytes) -> None:
    """Row 11: only what begins as HTTP/1 counts."""
    with pytest.raises(NotHttp):
        Response(LIMIT).feed(raw)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"days": -1}, "has expired"),
        ({"self_signed": True}, "is self-signed"),
        ({"host": "other.example"}, "is for another host"),
        ({"trusted": False}, "comes from an authority that is not trusted here"),
        ({"key_ids": False}, None),
        ({}, None),
    ],
)
async def test_a_certificate_is_refused_for_what_it_is(tmp_path: Path, made: dict[str, Any], said: str | None) -> None:
    """Row 24: one sentence stood for all; on Python 3.13 an authority without key identifiers was refused."""
    host, trusted = made.pop("host", "good.example"), made.pop("trusted", True)
    certificate = server_certificate(tmp_path, host, **made)
    context = ssl.create_default_context(cafile=str(certificate.authority) if trusted else None)
    client = GuardedClient(LOOPBACK, lookup=nowhere_but_here, tls_context=verifying(context))
    async with receiver(tls=certificate.server) as there:
        if said is None:
            assert (await post(client, f"https://good.example:{there.port}/")).status == 200
        else:
            with pytest.raises(Unreachable, match=f"certificate {said}"):
                await post(client, f"https://good.example:{there.port}/")


def test_verification_is_stated() -> None:
    """Row 24: the flags do not depend on the Python that runs this."""
    strict = ssl.create_default_context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    flags = verifying(strict).verify_flags
    assert flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert not flags & ssl.VERIFY_X509_STRICT
    assert strict.check_hostname
    assert strict.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a/../b/./c//d", "/a/../b/./c//d"),
        ("/%7Euser/%41?x=%2B+y&&z=", "/%7Euser/%41?x=%2B+y&&z="),
        ("?token=a=b;c", "/?token=a=b;c"),
        ("", "/"),
        ("/a[1]|{x}'\"%zz", "/a[1]|{x}'\"%zz"),
        ("/x#fragment", "/x"),
        ("/\u00fc?q=\u00e9%C3", "/%C3%BC?q=%C3%A9%C3"),
    ],
)
async def test_a_url_is_sent_as_it_was_registered(written: str, sent: str) -> None:
    """Row 11: a receiver that signs or compares its own URL sees the very bytes; only what is not ASCII is encoded."""
    async with receiver() as there:
        await post(GuardedClient(LOOPBACK), f"http://127.0.0.1:{there.port}{written}")
        assert there.got[0].path == sent


def test_a_host_of_other_letters_is_sent_as_dns_knows_it() -> None:
    """Row 11: only IDN is encoded."""
    target = check_url("https://B\u00fccher.example:8443/x", Policy(False))
    assert (target.authority, target.host) == ("xn--bcher-kva.example:8443", "xn--bcher-kva.example")


def reply(body: bytes, coding: str) -> Reply:
    return Reply(200, {"content-encoding": coding}, body, True)


def test_compression_that_nobody_asked_for_is_undone() -> None:
    """Row 25: some servers compress whatever was asked for."""
    text = b'{"keys":[]}' * 50
    bare = zlib.compressobj(wbits=-15)
    assert decoded(reply(gzip.compress(text), "gzip"), LIMIT) == text
    assert decoded(reply(zlib.compress(text), "Deflate"), LIMIT) == text
    assert decoded(reply(bare.compress(text) + bare.flush(), "deflate"), LIMIT) == text
    assert decoded(reply(gzip.compress(zlib.compress(text)), "deflate, x-gzip"), LIMIT) == text
    assert decoded(reply(text, "identity"), LIMIT) == decoded(reply(text, ""), LIMIT) == text


@pytest.mark.parametrize(
    ("body", "coding", "said"),
    [
        (gzip.compress(b"\0" * 50_000_000), "gzip", "larger than"),
        (gzip.compress(gzip.compress(b"\0" * 50_000_000)), "gzip, gzip", "larger than"),
        (b"not compressed", "gzip", "broken or cut off"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", "broken or cut off"),
        (b"", "gzip", "broken or cut off"),
        (b"anything", "br", "not known"),
        (b"anything", "gzip, gzip, gzip, gzip", "not known"),
    ],
)
def test_compression_stays_within_its_bounds(body: bytes, coding: str, said: str) -> None:
    """Row 25: a few bytes that become many are refused; so is what cannot be undone."""
    with pytest.raises(Undecodable, match=said):
        decoded(reply(body, coding), LIMIT)


class Names:
    def __init__(self) -> None:
        self.addresses: list[Address] = []

    async def __call__(self, _: str) -> list[Address]:
        return self.addresses


async def test_a_host_that_does_not_resolve_yet_is_asked_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 6: the refusal was kept under the Idempotency-Key, and replayed for seven days after the name resolved."""
    names = Names()
    monkeypatch.setattr("aitp_cp.outbound.client.SystemLookup", lambda: names)
    async with running_app(database_url, **LOCAL) as app:
        body, once = {"url": "http://later.example/"}, {"headers": {"Idempotency-Key": "once"}}
        refused = await app.post("/api/webhooks", body, **once)
        assert (refused.status_code, refused.json()["code"]) == (503, "HOST_UNRESOLVED")
        assert int(refused.headers["Retry-After"]) >= 1
        names.addresses = [ip_address("93.184.216.34")]
        assert (await app.post("/api/webhooks", body, **once)).status_code == 201


async def test_internal_names_cannot_be_asked_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A17: whether a name resolves to something internal or not at all, the answer is the same."""
    names = Names()
    monkeypatch.setattr("aitp_cp.outbound.client.SystemLookup", lambda: names)
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, "http://127.0.0.1:9/")
        said = set()
        for addresses in ([], ["10.1.2.3"], ["169.254.169.254"], ["93.184.216.34", "::1"]):
            names.addresses = [ip_address(text) for text in addresses]
            made = await app.post("/api/webhooks", {"url": "http://vault.corp.example/"})
            changed = await app.http.patch(
                f"/api/webhooks/{hook['id']}", json={"url": "http://vault.corp.example/"}, headers=AUTH
            )
            said |= {(response.status_code, response.text) for response in (made, changed)}
            with pytest.raises((Refused, Unreachable)) as failure:
                await post(GuardedClient(LOOPBACK, lookup=names), "http://vault.corp.example/")
            said.add((0, str(failure.value)))
        assert len(said) == 2

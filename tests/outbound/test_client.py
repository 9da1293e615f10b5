import asyncio
import gzip
import ssl
import time
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from aitp_cp.errors import AppError, HostUnresolved
from aitp_cp.outbound import GuardedClient, Policy, Refused, Reply, Unreachable
from aitp_cp.outbound.model import Address
from tests.outbound.hostile import FORBIDDEN_ANSWERS, NOT_URLS, REFUSED
from tests.support.certificates import server_certificate
from tests.support.receiver import HANG_SECS, Answer, Receiver, receiver

pytestmark = pytest.mark.anyio

LOOPBACK = Policy(False, (), (ip_network("127.0.0.0/8"),))
PUBLIC = "93.184.216.34"


class Names:
    """A name server whose answers change from question to question; the last one stays."""

    def __init__(self, *answers: Iterable[str]) -> None:
        self._answers = [[ip_address(text) for text in answer] for answer in answers]
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def post(client: GuardedClient, url: str, *, deadline: float = 5, limit: int = 1000) -> Reply:
    return await client.send("POST", url, headers={"X-One": "1"}, body=b"{}", deadline_secs=deadline, max_bytes=limit)


async def reached(client: GuardedClient, url: str) -> bool:
    """Whether anything went out: a refusal and a failure to connect are both no."""
    try:
        await post(client, url)
    except (Refused, Unreachable):
        return False
    return True


async def test_a_request_arrives_as_it_was_written() -> None:
    client = GuardedClient(LOOPBACK)
    async with receiver(Answer(202, b"thanks", {"X-Two": "2"})) as there:
        reply = await post(client, f"{there.url}/a%2Fb?x=%2B")
        assert (reply.status, reply.body, reply.complete, reply.headers["x-two"]) == (202, b"thanks", True, "2")
        got = there.got[0]
        assert (got.method, got.path, got.body, got.headers["x-one"]) == ("POST", "/hook/a%2Fb?x=%2B", b"{}", "1")
        assert got.headers["user-agent"].startswith("aitp-control-plane/")
        assert got.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_no_hostile_url_ever_reaches_a_listener_on_loopback(host: str) -> None:
    there = Receiver(lambda _: Answer())
    await there.open(host)
    client = GuardedClient(Policy(production=False))
    try:
        for template in (*REFUSED, *NOT_URLS):
            url = template.replace("{port}", str(there.port))
            with pytest.raises(Refused):
                await post(client, url)
            with pytest.raises(AppError):
                await client.check_destination(url)
        assert there.connections == 0
    finally:
        await there.close()


@pytest.mark.parametrize("answer", FORBIDDEN_ANSWERS)
@pytest.mark.parametrize("place", ["alone", "first", "last"])
async def test_one_forbidden_answer_condemns_the_name(answer: str, place: str) -> None:
    answers = {"alone": [answer], "first": [answer, PUBLIC], "last": [PUBLIC, "2606:4700::1111", answer]}[place]
    client = GuardedClient(Policy(production=False), lookup=Names(answers))
    with pytest.raises(Refused, match="does not lead to a public address"):
        await post(client, "http://innocent.example/")
    with pytest.raises(HostUnresolved):
        await client.check_destination("http://innocent.example/")


async def test_a_name_that_turns_to_loopback_after_it_was_stored_is_refused() -> None:
    async with receiver() as there:
        names = Names([PUBLIC], ["127.0.0.1"])
        client = GuardedClient(Policy(production=False), lookup=names)
        url = f"http://rebind.example:{there.port}/"
        await client.check_destination(url)
        with pytest.raises(Refused):
            await post(client, url)
        assert there.connections == 0


async def test_the_connection_goes_to_the_very_answer_that_was_checked() -> None:
    async with receiver() as there:
        names = Names(["127.0.0.2"], ["10.0.0.1"])
        client = GuardedClient(LOOPBACK, lookup=names)
        url = f"http://rebind.example:{there.port}/"
        # The receiver listens on 127.0.0.1 only: the checked address is the one that is tried, and no other is asked.
        with pytest.raises(Unreachable):
            await post(client, url)
        assert names.asked == ["rebind.example"]
        with pytest.raises(Refused):
            await post(client, url)


async def test_every_connection_is_checked_anew() -> None:
    async with receiver() as there:
        names = Names(["127.0.0.1"], ["127.0.0.1"], ["192.168.0.1"])
        client = GuardedClient(LOOPBACK, lookup=names)
        url = f"http://rebind.example:{there.port}/"
        assert [await reached(client, url) for _ in range(3)] == [True, True, False]
        assert there.connections == 2
        assert there.got[0].headers["host"] == f"rebind.example:{there.port}"
        assert there.got[0].headers["connection"] == "close"


async def test_a_second_address_is_tried_when_the_first_is_dead() -> None:
    async with receiver() as there:
        client = GuardedClient(LOOPBACK, lookup=Names(["127.0.0.2", "127.0.0.1"]))
        assert (await post(client, f"http://two.example:{there.port}/")).status == 200


async def test_names_are_looked_up_by_the_system() -> None:
    async with receiver() as there:
        client = GuardedClient(LOOPBACK)
        assert (await asyncio.gather(*(post(client, there.url) for _ in range(5))))[0].status == 200
        for url in ("http://no-such-host.invalid/", f"http://no-such-host.invalid:{there.port}/"):
            with pytest.raises(Unreachable, match="does not lead to a public address"):
                await post(client, url)
            with pytest.raises(HostUnresolved):
                await client.check_destination(url)


async def test_a_redirect_is_an_answer_and_is_never_followed() -> None:
    async with receiver() as inside:
        for status in (301, 302, 303, 307, 308):
            async with receiver(Answer(status, headers={"Location": inside.url})) as there:
                client = GuardedClient(LOOPBACK)
                assert (await post(client, there.url)).status == status
        assert inside.connections == 0


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    async with receiver() as proxy, receiver() as there:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        client = GuardedClient(LOOPBACK)
        assert (await post(client, there.url)).status == 200
        assert proxy.connections == 0
        assert "authorization" not in there.got[0].headers


async def test_cookies_are_not_kept() -> None:
    async with receiver(Answer(headers={"Set-Cookie": "a=b; Path=/"})) as there:
        client = GuardedClient(LOOPBACK, lookup=Names(["127.0.0.1"]))
        for _ in range(2):
            await post(client, f"http://cookies.example:{there.port}/")
        assert "cookie" not in there.got[1].headers


async def test_an_endless_answer_is_cut_at_the_limit() -> None:
    async with receiver(Answer(body=b"x" * 5_000_000)) as there:
        client = GuardedClient(LOOPBACK)
        reply = await post(client, there.url, limit=64 * 1024)
        assert (reply.status, len(reply.body), reply.complete) == (200, 64 * 1024, False)


async def test_a_compressed_answer_stays_as_small_as_it_came() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with receiver(Answer(body=bomb, headers={"Content-Encoding": "gzip"})) as there:
        client = GuardedClient(LOOPBACK)
        assert (await post(client, there.url, limit=100_000)).body == bomb


async def slow_names(host: str) -> list[Address]:
    await asyncio.sleep(HANG_SECS)
    return [ip_address(PUBLIC)]


async def test_one_deadline_covers_the_name_too() -> None:
    client = GuardedClient(LOOPBACK, lookup=slow_names)
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"no response within 0\.2 s"):
        await post(client, "http://slow.example/", deadline=0.2)
    assert time.monotonic() - began < 60


async def test_a_receiver_that_says_nothing_is_left_at_the_deadline() -> None:
    async with receiver(Answer(wait_secs=HANG_SECS)) as there:
        client = GuardedClient(LOOPBACK)
        with pytest.raises(Unreachable, match="no response"):
            await post(client, there.url, deadline=0.2)


async def test_a_body_that_never_ends_leaves_the_status_it_came_with() -> None:
    async with receiver(Answer(201, body=b"slowly", drip_secs=HANG_SECS)) as there:
        client = GuardedClient(LOOPBACK)
        reply = await post(client, there.url, deadline=1.5)
        assert (reply.status, reply.complete) == (201, False)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(drop=True), "closed before a response"),
        (Answer(raw=b"SSH-2.0-OpenSSH_9.6\r\n"), "not valid HTTP"),
        (Answer(raw=b"HTTP/1.1 " + b"y" * 100_000 + b"\r\n\r\n"), "not valid HTTP"),
        (Answer(raw=b"HTTP/1.1 2000 OK\r\n\r\n"), "not valid HTTP"),
    ],
)
async def test_what_is_no_answer_is_told_in_a_few_words(answer: Answer, reason: str) -> None:
    async with receiver(answer) as there:
        client = GuardedClient(LOOPBACK)
        with pytest.raises(Unreachable, match=reason) as failure:
            await post(client, f"{there.url}?token=secret")
        assert "secret" not in str(failure.value)


async def test_a_header_that_breaks_lines_is_never_sent() -> None:
    async with receiver() as there:
        client = GuardedClient(LOOPBACK)
        with pytest.raises(Refused):
            await client.send(
                "POST", there.url, headers={"X-One": "1\r\nX-Two: 2"}, body=b"", deadline_secs=5, max_bytes=10
            )
        assert there.got == []


async def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    made = server_certificate(tmp_path, "good.example")
    async with receiver(tls=made.server) as there:
        client = GuardedClient(LOOPBACK, lookup=Names(["127.0.0.1"]))
        with pytest.raises(Unreachable, match="TLS certificate"):
            await post(client, f"https://good.example:{there.port}/")
        assert there.got == []


async def test_the_certificate_must_be_the_host_s_own(tmp_path: Path) -> None:
    made = server_certificate(tmp_path, "good.example")
    trusting = ssl.create_default_context(cafile=str(made.authority))
    async with receiver(tls=made.server) as there:
        client = GuardedClient(LOOPBACK, lookup=Names(["127.0.0.1"]), tls_context=trusting)
        assert (await post(client, f"https://good.example:{there.port}/")).status == 200
        for other in ("other.example", "127.0.0.1"):
            with pytest.raises(Unreachable, match="TLS certificate"):
                await post(client, f"https://{other}:{there.port}/")
        assert len(there.got) == 1

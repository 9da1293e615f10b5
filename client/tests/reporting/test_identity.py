"""How a reporter proves who it is, before and after the control plane changes."""

from typing import Any

import aitp
import pytest

from aitp_cp.protocol import http_signature
from aitp_cp_client import Reporter, SigningKey
from aitp_cp_client.wire import aid as aids
from client.tests.reporting.support import QUICK, Sink, sink
from tests.support.agents import new_agent
from tests.support.receiver import Answer, Received

pytestmark = pytest.mark.anyio

WRONG_AUDIENCE = Answer(401, b'{"error":"no","code":"SIGNATURE_INVALID","reason":"audience"}')


class Signed:
    """A sink with a manifest, which accepts what is signed for it, checked as the control plane does."""

    def __init__(self, cp: Sink) -> None:
        self.cp = cp
        self.signers: list[str] = []
        self.manifests = 0
        self.reseed()
        cp.other = self.response

    def reseed(self) -> None:
        agent = aitp.AitpAgent.generate()
        self.aid = aids.canonical(agent.aid)
        self.manifest = agent.build_manifest("aitp-control-plane", "https://cp.example/aitp", []).encode()

    def response(self, received: Received) -> Answer | None:
        if received.method == "GET":
            self.manifests += 1
            return Answer(body=self.manifest)
        if received.headers["aitp-audience"] != self.aid:
            return WRONG_AUDIENCE
        fields = {name: [value] for name, value in received.headers.items()}
        request = http_signature.SignedRequest(received.method, received.path, "", fields)
        verified = http_signature.verify(request, self.aid, int(fields_created(received)))
        http_signature.check_body(received.body, verified.digests)
        self.signers.append(verified.aid)
        return None


def fields_created(received: Received) -> str:
    return received.headers["signature-input"].partition("created=")[2].partition(";")[0]


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
async def test_each_request_is_signed_for_the_control_planes_aid(suite: Any) -> None:
    agent = new_agent(suite)
    async with sink() as cp:
        signed = Signed(cp)
        async with Reporter(cp.url, SigningKey.from_seed(agent.seed, suite), limits=QUICK) as reporter:
            for n in range(3):
                reporter.report("t", payload={"n": n})
                assert await reporter.flush(10)
        assert cp.numbers == [0, 1, 2]
        assert signed.signers == [agent.aid] * 3
        assert signed.manifests == 1


async def test_a_new_identity_of_the_control_plane_is_read_again_at_once_and_only_once() -> None:
    async with sink() as cp:
        signed = Signed(cp)
        async with Reporter(cp.url, SigningKey.from_seed(new_agent().seed), limits=QUICK) as reporter:
            reporter.report("t", payload={"n": 0})
            assert await reporter.flush(10)
            signed.reseed()
            reporter.report("t", payload={"n": 1})
            assert await reporter.flush(10)
            assert (cp.numbers, reporter.counters.retries, signed.manifests) == ([0, 1], 1, 2)
            signed.aid = aids.canonical(new_agent().aid)  # not the one of its manifest
            reporter.report("t", payload={"n": 2})
            assert not await reporter.flush(0.3)
            assert signed.manifests < 30
            signed.reseed()
            assert await reporter.flush(10)


async def test_a_pinned_control_plane_is_not_asked_who_it_is() -> None:
    async with sink() as cp:
        signed = Signed(cp)
        key = SigningKey.from_seed(new_agent().seed)
        async with Reporter(cp.url, key, pinned=signed.aid, limits=QUICK) as reporter:
            reporter.report("t", payload={"n": 0})
            assert await reporter.flush(10)
            assert signed.manifests == 0
            signed.reseed()
            reporter.report("t", payload={"n": 1})
            assert not await reporter.flush(0.1)
            assert not await reporter.close(0)
            assert cp.numbers == [0]
    assert "SIGNATURE_INVALID" in (reporter.counters.last_error or "")
    with pytest.raises(ValueError):
        Reporter(cp.url, key, pinned="nobody")


async def test_a_manifest_that_cannot_be_had_costs_no_event() -> None:
    responses = [Answer(404, b'{"error":"no","code":"NOT_FOUND"}'), Answer(400), Answer(body=b"{}")]
    async with sink() as cp:
        signed = Signed(cp)
        cp.other = lambda received: (
            responses.pop() if responses and received.method == "GET" else signed.response(received)
        )
        async with Reporter(cp.url, SigningKey.from_seed(new_agent().seed), limits=QUICK) as reporter:
            for n in range(3):
                reporter.report("t", payload={"n": n})
            assert await reporter.flush(10)
            assert cp.numbers == [0, 1, 2]
            assert reporter.counters.refused == 0

"""A reporter and a real control plane: what the helpers for the SDK's objects become there, and kill -9 of agents."""

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import aitp
import pytest

from aitp_cp_client import ControlPlane, Reporter, SigningKey
from client.tests.reporting import crashes
from client.tests.reporting.support import QUICK
from tests.support.agents import Suite, new_agent, sdk_manifest
from tests.support.app import API_KEY
from tests.support.process import Process
from tests.support.rendered import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

GRANT = "demo.echo"
KILLS = int(os.environ.get("REPORTER_KILLS", "12"))


class Pair:
    """Two agents of the SDK after a handshake."""

    def __init__(self) -> None:
        self.alice, self.bob = aitp.AitpAgent.generate(), aitp.AitpAgent.generate("p256")
        self.alice.build_manifest("alice", "https://alice.example/aitp", [GRANT])
        peer = self.bob.build_manifest("bob", "https://bob.example/aitp", [GRANT])
        initiator = self.alice.new_session(pinned_keys=[self.bob.aid])
        responder = self.bob.new_responder(pinned_keys=[self.alice.aid])
        hello_ack, self.session = responder.process_hello(initiator.build_hello(peer, [GRANT]))
        commit = initiator.process_hello_ack(hello_ack, self.session)
        commit_ack, self.to_bob = responder.process_commit(commit, revoked_jtis=set())
        self.to_alice = initiator.complete(commit_ack, revoked_jtis=set())


async def test_a_handshake_is_reported_from_both_sides(server: Process) -> None:
    pair = Pair()
    async with ControlPlane(server.url, API_KEY) as cp, Reporter(server.url, API_KEY) as reporter:
        reporter.handshake_complete(pair.session, pair.to_alice, "initiator", run_id="both")
        reporter.handshake_started(pair.session, pair.alice.aid, pair.bob.aid, run_id="both")
        reporter.handshake_complete(pair.session, pair.to_bob, "responder", run_id="both")
        assert await reporter.flush(30)
        assert (reporter.counters.sent, reporter.counters.refused) == (3, 0)
        session = (await cp.sessions.get(pair.session)).session
        assert (session.status, session.grants) == ("complete", [GRANT])
        assert (session.aid_a, session.aid_b) == (pair.alice.aid, pair.bob.aid)
        tcts = [tct async for tct in cp.tcts.each(session_id=pair.session)]
        assert {(tct.issuer, tct.subject) for tct in tcts} == {
            (pair.alice.aid, pair.bob.aid),
            (pair.bob.aid, pair.alice.aid),
        }
        stored = json.dumps([event.payload async for event in cp.events.log(run_id="both")])
        assert "eyJ" not in stored


async def test_the_life_of_a_token(server: Process) -> None:
    pair, carol = Pair(), aitp.AitpAgent.generate()
    held = json.loads(pair.to_alice)
    delegation = pair.alice.build_delegation(held["grant_voucher"], carol.aid, [GRANT])
    request = pair.alice.build_renewal_request(held["tct"])
    renewed = pair.bob.process_renewal_request(request, 4_102_444_800, 3600, revoked_jtis=set())
    async with ControlPlane(server.url, API_KEY) as cp, Reporter(server.url, API_KEY) as reporter:
        reporter.tct_issued(pair.to_alice, session_id=pair.session)
        reporter.tct_renewed(renewed, session_id=pair.session)
        reporter.delegation_issued(delegation)
        assert await reporter.flush(30)
        tcts = [tct async for tct in cp.tcts.each(session_id=pair.session)]
        assert len(tcts) == 2
        [shown] = [each async for each in cp.delegations.each(delegator=pair.alice.aid)]
        assert (shown.delegatee, shown.scope, shown.revoked) == (carol.aid, [GRANT], False)
        reporter.delegation_revoked(delegation, "done")
        reporter.tct_revoked(str(tcts[0].jti), "key lost")
        reporter.handshake_failed(str(uuid4()), "POP_FAILED", pair.alice.aid, target=pair.bob.aid, run_id="failed")
        assert await reporter.flush(30)
        [shown] = [each async for each in cp.delegations.each(delegator=pair.alice.aid)]
        assert shown.revoked
        assert {tct.revoked async for tct in cp.tcts.each(session_id=pair.session)} == {True, False}
        [failed] = [each async for each in cp.sessions.each(run_id="failed")]
        assert (failed.status, failed.error) == ("failed", "POP_FAILED")


async def test_a_kill_loses_nothing_that_was_safe_and_sends_nothing_twice(server: Process, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    command = [sys.executable, "-m", crashes.__name__, server.url, API_KEY, str(tmp_path / "spool"), str(KILLS)]
    done = await asyncio.to_thread(
        subprocess.run, [*command, str(seed)], cwd=ROOT, env=environment(), capture_output=True, timeout=60 + KILLS
    )
    assert done.returncode == 0, done.stderr.decode()
    safe = json.loads(done.stdout)
    logged = await numbers(server, crashes.RUN)
    print(f"seed {seed}: {KILLS} kills, {len(logged)} events, {sum(last >= 0 for last in safe)} agents were told")
    for number, last in enumerate(safe):
        first = number * crashes.RANGE
        own = [n for n in logged if first <= n < first + crashes.RANGE]
        assert own == list(range(first, first + len(own))), "twice, out of order, or with a gap"
        assert len(own) > last - first
    assert any(last >= 0 for last in safe)


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
@pytest.mark.parametrize("proof", ["signature", "agent-token"])
async def test_an_agent_reports_for_itself_once_it_is_registered(server: Process, suite: Suite, proof: str) -> None:
    agent, run_id = new_agent(suite), f"{suite}-{proof}"
    identity = SigningKey.from_seed(agent.seed, suite) if proof == "signature" else agent.sdk
    async with ControlPlane(server.url, API_KEY) as cp, Reporter(server.url, identity, limits=QUICK) as reporter:
        reporter.report("capability.invoked", run_id=run_id, payload={"n": 0})
        await until(lambda: "AGENT_NOT_ACTIVE" in (reporter.counters.last_error or ""))
        await cp.agents.enroll_and_register(sdk_manifest(agent))
        reporter.report("capability.invoked", run_id=run_id, payload={"n": 1})
        reporter.report("capability.invoked", run_id=run_id, aid_a=new_agent().aid, payload={"n": 2})
        assert await reporter.flush(30)
        events = [event async for event in cp.events.log(run_id=run_id)]
        assert [event.payload["n"] for event in events[:2]] == [0, 1]
        assert {(event.reported_by, event.proof) for event in events} == {(agent.aid, proof)}
        assert reporter.counters.queued == 0


async def test_the_example_agent(server: Process) -> None:
    command = [sys.executable, str(ROOT / "examples" / "agent.py"), server.url]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment(), timeout=30, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = dict(line.split("=") for line in done.stdout.splitlines())
    assert shown["reported"] == "True"
    async with ControlPlane(server.url, API_KEY) as cp:
        detail = await cp.sessions.get(shown["session"])
        assert (detail.session.status, detail.session.aid_a) == ("complete", shown["aid"])
        assert {event.proof for event in detail.events} == {"signature"}
        [tct] = [tct async for tct in cp.tcts.each(session_id=shown["session"])]
        assert (tct.subject, tct.verdict) == (shown["aid"], "verified")


FORKING = """
import os, sys
from aitp_cp_client import ThreadReporter, Limits

url, key, run_id, path = sys.argv[1:]
reporter = ThreadReporter(url, key, spool=path or None, limits=Limits(linger_secs=0.01))

def report(first):
    for n in range(first, first + 100):
        reporter.report("t", run_id=run_id, payload={"n": n})

report(0)
reporter.flush()
report(100)
child = os.fork()
report(1000 if child == 0 else 200)
done = reporter.flush(20) and reporter.counters.reported == (100 if child == 0 else 300)
if child == 0:
    sys.exit(not done)
_, status = os.waitpid(child, 0)
report(300)
sys.exit(status or not done or not reporter.flush(20))
"""


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
async def test_a_fork_sends_nothing_twice_and_loses_nothing(server: Process, tmp_path: Path, spooled: bool) -> None:
    run_id, path = f"fork-{spooled}", str(tmp_path / "spool") if spooled else ""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, server.url, API_KEY, run_id, path]
    done = await asyncio.to_thread(subprocess.run, command, env=environment(), timeout=30, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    logged = await numbers(server, run_id)
    assert [n for n in logged if n < 1000] == list(range(400))
    assert [n for n in logged if n >= 1000] == list(range(1000, 1100))


async def numbers(server: Process, run_id: str) -> list[int]:
    """The payloads' numbers in the order of the log."""
    async with ControlPlane(server.url, API_KEY) as control_plane:
        return [event.payload["n"] async for event in control_plane.events.log(run_id=run_id)]


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}

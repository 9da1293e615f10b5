"""An agent reports a handshake as the README shows it, its peer lies about it, and the commands show who said what."""

import asyncio
import re
import secrets
import subprocess
import sys
from pathlib import Path

import aitp
import httpx

from aitp_cp_client import ControlPlane, Reporter, SigningKey
from client.tests.commands.support import at, read
from tests.cli.support import said
from tests.containment.support import claimed, path, proven, signed
from tests.support.agents import claims_in, new_agent
from tests.support.app import AUTH
from tests.support.process import Process
from tests.support.rendered import ROOT
from tests.support.served import server

__all__ = ["server"]

PEER = 'peer = aitp.AitpAgent.generate("p256")'


def honest(server: Process, folder: Path, peer_seed: bytes) -> dict[str, str]:
    """Run the README's agent, without any API key, with a peer of this key; what it printed."""
    text = (ROOT / "examples" / "agent.py").read_text()
    assert text.count(PEER) == 1
    text = text.replace(PEER, f"peer = aitp.AitpAgent.from_seed({peer_seed!r})")
    (folder / "agent.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "agent.py", server.url], cwd=folder, env={}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("=") for line in done.stdout.splitlines())


async def lie(server: Process, seed: bytes, session: str, victim: str) -> None:
    """Say as the peer, under its own key, that the handshake has failed."""
    peer = aitp.AitpAgent.from_seed(seed)

    def manifest() -> str:
        return peer.build_manifest("bob", "https://bob.example/aitp", ["demo.echo"], ttl_secs=3600)

    key, lie = SigningKey.from_seed(seed), {"error": "no"}
    async with ControlPlane(server.url) as cp, cp.agents.registered(manifest), Reporter(server.url, key) as reporter:
        reporter.report("handshake.failed", session_id=session, aid_a=victim, aid_b=peer.aid, payload=lie)
        assert await reporter.flush(10)
        assert reporter.counters.refused == 0


def test_the_commands_tell_the_verified_from_the_claimed(server: Process, tmp_path: Path) -> None:
    seed = secrets.token_bytes(32)
    peer = aitp.AitpAgent.from_seed(seed).aid
    shown = honest(server, tmp_path, seed)
    agent, session = shown["aid"], shown["session"]
    asyncio.run(lie(server, seed, session, agent))
    [real] = read(at(server, "tcts", "list", "--json"))["tcts"]
    made_up = claimed(agent, peer, grants=["admin"])
    more = claimed(peer, agent, jti=real["jti"], grants=["admin"])
    for event in (made_up, more):  # the peer has the key that everybody shares as well
        event = {**event, "session_id": session}
        httpx.post(f"{server.url}/api/events", json=[event], headers=AUTH).raise_for_status()

    tokens = said(at(server, "tcts", "list"))
    jti = made_up["payload"]["tct"]["jti"]
    assert f"verified, conflict {agent} —" in tokens
    assert re.search(rf"{jti} {agent} {peer} admin \S+ none shared key —", tokens)
    assert re.search(rf"{real['jti']} {peer} {agent} \S+ verified {agent} —", tokens)
    assert re.search(rf"{real['jti']} {peer} {agent} \S+ none shared key —", tokens)

    true = signed(new_agent(), new_agent())  # ten false tokens under its id come first
    claims = claims_in(true)
    false = [signed(new_agent(), new_agent(), jti=claims["jti"]) for _ in range(10)]
    for tokens_of in (false, [true]):
        batch = [proven(token) for token in tokens_of]
        httpx.post(f"{server.url}/api/events", json=batch, headers=AUTH).raise_for_status()
    [own] = read(at(server, "tcts", "list", "--issuer", claims["iss"], "--json"))["tcts"]
    assert (own["jti"], own["subject"], own["verdict"]) == (claims["jti"], claims["sub"], "verified")
    contain = server.url + path(claims["iss"], "contain")
    httpx.post(contain, json={"reason": "stolen"}, headers=AUTH).raise_for_status()
    [own] = read(at(server, "tcts", "list", "--issuer", claims["iss"], "--json"))["tcts"]
    assert own["revoked"]

    story = said(at(server, "sessions", "show", session))
    assert "status complete" in story
    assert "conflict True" in story
    assert re.search(rf"handshake.complete {agent} {peer} \S+ {agent} signature", story)
    assert re.search(rf"handshake.failed {agent} {peer} \S+ {peer} signature", story)
    assert re.search(r"tct.issued — — \S+ shared key shared-key", story)
    assert f"verified, conflict {agent}" in story

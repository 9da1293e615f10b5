"""An agent that registers, reports a handshake with its own key and renews its registration before it expires.

Usage: agent.py [URL of the control plane] [seconds to stay]. It needs no API key.
"""

import asyncio
import secrets
import sys

import aitp

from aitp_cp_client import ControlPlane, Reporter, SigningKey

GRANT, RUN = "demo.echo", "agent"
seed = secrets.token_bytes(32)  # in production: kept, for it is the agent's identity
agent, key = aitp.AitpAgent.from_seed(seed), SigningKey.from_seed(seed)
peer = aitp.AitpAgent.generate("p256")


def manifest() -> str:
    return agent.build_manifest("researcher", "https://agent.example/aitp", [GRANT], ttl_secs=3600)


async def main(url: str = "http://127.0.0.1:4000", stay_secs: str = "0") -> None:
    async with ControlPlane(url) as cp, cp.agents.registered(manifest, agent=agent), Reporter(url, key) as reporter:
        bob = peer.build_manifest("bob", "https://bob.example/aitp", [GRANT])
        ours, theirs = agent.new_session(pinned_keys=[peer.aid]), peer.new_responder(pinned_keys=[agent.aid])
        hello = ours.build_hello(bob, [GRANT])
        hello_ack, session = theirs.process_hello(hello)
        reporter.handshake_started(session, agent.aid, peer.aid, run_id=RUN)
        commit_ack, _ = theirs.process_commit(ours.process_hello_ack(hello_ack, session), revoked_jtis=set())
        completed = ours.complete(commit_ack, revoked_jtis=set())
        reporter.handshake_complete(session, completed, "initiator", run_id=RUN)
        print(f"aid={agent.aid}\nsession={session}\nreported={await reporter.flush(10)}")
        await asyncio.sleep(float(stay_secs))


asyncio.run(main(*sys.argv[1:]))

"""The reporter library of the client against this control plane, with each of an agent's two proofs."""

from pathlib import Path

import pytest

from aitp_cp_client import ControlPlane, ControlPlaneError, Reporter, SigningKey
from aitp_cp_conformance.catalogue import CHECKS
from aitp_cp_conformance.model import Options
from aitp_cp_conformance.runner import run
from tests.support.agents import new_agent, sdk_manifest
from tests.support.app import API_KEY
from tests.support.process import Process

pytestmark = pytest.mark.anyio


async def test_agents_report_through_the_library_with_a_token_and_with_their_key(
    database_url: str, tmp_path: Path
) -> None:
    agent = new_agent()
    with Process(database_url, tmp_path / "log", TELEMETRY="require", ENROLMENT="proof") as server:
        async with ControlPlane(server.url, API_KEY) as control_plane:
            with pytest.raises(ControlPlaneError, match="PROOF_REQUIRED"):
                await control_plane.agents.enroll_and_register(sdk_manifest(agent))
            async with control_plane.agents.registered(lambda: sdk_manifest(agent).decode(), agent=agent.sdk):
                pass
            for identity in (agent.sdk, SigningKey.from_seed(agent.seed)):
                async with Reporter(server.url, identity) as reporter:
                    reporter.report("demo.event")
                    assert await reporter.flush(10)
                    assert (reporter.counters.sent, reporter.counters.refused) == (1, 0)
            stored = await control_plane.events.history(type="demo.event")
            assert [(event.proof, event.reported_by) for event in stored] == [
                ("signature", agent.aid),
                ("agent-token", agent.aid),
            ]
        # Here the kit can check less, and finds nothing wrong.
        checks = [check for check in CHECKS if check.section in {"5", "8", "20"}]
        results = (await run(Options(url=server.url, api_key=API_KEY), checks)).results
        assert [result for result in results if result.outcome == "failed"] == []
        assert {"agent_auth.token_reports", "registration.registration_answer"} <= {
            result.name for result in results if result.outcome == "passed"
        }

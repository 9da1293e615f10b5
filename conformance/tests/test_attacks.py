"""aitp-cp conformance --attacks: the control plane withstands them, and a server that believes everything does not."""

import asyncio
import json
import re
from pathlib import Path

from aitp_cp_conformance.catalogue import ATTACKS, CHECKS, chosen
from aitp_cp_conformance.model import Options, Report
from aitp_cp_conformance.runner import run
from tests.cli.support import run as command
from tests.support.app import API_KEY
from tests.support.process import Process


async def believing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 200 to whatever looks like a request, wherever it stands, and repeat its Host."""
    received = b""
    try:
        while chunk := await asyncio.wait_for(reader.read(2**20), 0.3):
            received += chunk
    except TimeoutError:
        pass
    status = b"200 OK" if b"/api/audit" not in received or b"Authorization" in received else b"401 No"
    host = b",".join(re.findall(rb"Host: (\S+)", received))
    body = json.dumps({"host": host.decode()}).encode()
    for _ in re.findall(rb"(?:GET|POST) \S* HTTP/1.1", received):
        writer.write(b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, len(body)))
        writer.write(b"Connection: close\r\n\r\n" + body)
    writer.close()


async def against_the_believing() -> Report:
    server = await asyncio.start_server(believing, "127.0.0.1", 0, limit=2**20)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return await run(Options(url=url, api_key=API_KEY), ATTACKS)


def test_attacks_are_left_out_unless_asked_for() -> None:
    assert not set(ATTACKS) & set(CHECKS)
    assert chosen(frozenset({"6"}), attacks=True)[-len(ATTACKS) :] == ATTACKS
    assert not set(ATTACKS) & set(chosen(frozenset({"2"})))


def test_the_control_plane_withstands_every_attack(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log") as server:
        arguments = ("--url", server.url, "--section", "6", "--attacks", "--json")
        report = json.loads(command("conformance", *arguments, AITP_CP_API_KEY=API_KEY).stdout)
        outcomes = {row["name"]: (row["outcome"], row["detail"]) for row in report["results"]}
        assert {name: outcomes[name] for name in (check.name for check in ATTACKS)} == {
            check.name: ("passed", None) for check in ATTACKS
        }
        assert "Traceback" not in server.log()


def test_a_server_that_believes_everything_fails() -> None:
    report = asyncio.run(against_the_believing())
    assert {result.name: result.outcome for result in report.results} == {check.name: "failed" for check in ATTACKS}

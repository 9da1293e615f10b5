"""aitp-cp conformance: output and exit codes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from aitp_cp_conformance.catalogue import CHECKS
from aitp_cp_conformance.model import SECTIONS
from tests.cli.support import run, said
from tests.support.app import API_KEY
from tests.support.postgres import migrated_database
from tests.support.process import Process, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path_factory.mktemp("conformance") / "log") as process:
        yield process


@contextmanager
def refusing(status: int, body: bytes) -> Iterator[str]:
    """Yield the address of a server that answers every request alike."""

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_the_report_is_grouped_by_section_and_names_skipped_checks(server: Process) -> None:
    done = run("conformance", "--url", server.url, "--api-key", API_KEY, "--section", "6", "--section", "4")
    assert done.returncode == 0
    text = said(done)
    assert "4. Rate limiting" in text
    assert "6. Health" in text
    assert "8. Registry" not in text
    assert "no request of this run met a rate limit" in text
    assert API_KEY not in text


def test_the_report_as_json(server: Process) -> None:
    done = run("conformance", "--url", server.url, "--section", "6", "--json", AITP_CP_API_KEY=API_KEY)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["left"] == []
    assert {result["section"] for result in report["results"]} == {"6"}
    assert {result["outcome"] for result in report["results"]} == {"passed"}
    assert set(report["results"][0]) == {"section", "name", "sentence", "extension", "outcome", "detail", "ms"}


def test_a_failed_check_is_shown_and_exits_with_1(server: Process) -> None:
    """Under a wrong base path every route is missing, so every check fails."""
    done = run("conformance", "--url", f"{server.url}/elsewhere", "--section", "6")
    assert done.returncode == 1
    assert "NOT_FOUND" in done.stdout


@pytest.mark.parametrize(("status", "key", "code"), [(404, "", 1), (401, "k", 4)], ids=["checks", "key"])
def test_a_response_cannot_control_the_terminal(status: int, key: str, code: int) -> None:
    hostile = '{"error":"\x1b[2Jred\x9b31m\u202e","code":"X"}'.encode()
    with refusing(status, hostile) as url:
        done = run("conformance", "--url", url, "--section", "6", AITP_CP_API_KEY=key)
        assert done.returncode == code
        assert "\\x1b[2Jred\\x9b31m\\u202e" in said(done).replace(" ", "")
        assert all(char.isprintable() for char in (done.stdout + done.stderr).replace("\n", ""))
        scripts = run("conformance", "--url", url, "--section", "6", "--json", AITP_CP_API_KEY=key)
        assert scripts.stdout.isascii()


def test_the_key_can_come_from_a_file(server: Process, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{API_KEY}\n")
    arguments = ("conformance", "--url", server.url, "--section", "13", "--json")
    done = run(*arguments, AITP_CP_API_KEY="", AITP_CP_API_KEY_FILE=str(key))
    assert {result["outcome"] for result in json.loads(done.stdout)["results"]} == {"passed"}
    assert run(*arguments, AITP_CP_API_KEY="", AITP_CP_API_KEY_FILE=str(tmp_path / "none")).returncode == 2
    both = run(*arguments, AITP_CP_API_KEY="key-canary", AITP_CP_API_KEY_FILE=str(key))
    assert (both.returncode, "AITP_CP_API_KEY_FILE" in both.stderr) == (2, True)
    assert "key-canary" not in both.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--url", "cp.example"),
        ("--url", "ftp://cp.example"),
        ("--url", "http://user:secret@cp.example"),
        ("--url", "http://cp.example:port"),
        ("--url", "http://cp.example", "--section", "99"),
        ("--url", "http://cp.example", "--environment", "staging"),
        ("--url", "http://cp.example", "--patience", "-1"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    done = run("conformance", *arguments, AITP_CP_URL="", AITP_CP_API_KEY="")
    assert done.returncode == 2
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("key", ["two words", "new\nline", "ünicode"])
def test_a_key_that_is_no_header_value_exits_with_2(key: str) -> None:
    done = run("conformance", "--url", "http://cp.example", AITP_CP_API_KEY=key)
    assert (done.returncode, done.stdout) == (2, "")
    assert "API key" in done.stderr
    assert key not in done.stderr


def test_an_unreachable_deployment_exits_with_5() -> None:
    done = run("conformance", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 5
    assert "cannot be reached" in said(done)


def test_a_refused_key_exits_with_4(server: Process) -> None:
    done = run("conformance", "--url", server.url, "--api-key", "a-wrong-key")
    assert done.returncode == 4
    assert "a-wrong-key" not in done.stdout + done.stderr


def test_the_checks_can_be_listed_without_a_deployment() -> None:
    listed = json.loads(run("conformance", "--list", "--json").stdout)
    assert {row["name"] for row in listed} == {check.name for check in CHECKS}
    text = said(run("conformance", "--list", "--section", "7"))
    assert "identity.verifies" in text
    assert "health.health" not in text
    assert {row["section"] for row in listed} == set(SECTIONS)

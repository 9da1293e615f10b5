"""Exit codes and messages of failed commands, and the secrets that they never show."""

import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from client.tests.commands.support import at, enrolled
from tests.cli.support import environment, run, said
from tests.support.app import API_KEY
from tests.support.process import Process, free_port

HELP = """
import sys
from aitp_cp_client.commands.entry import main
sys.argv = ["aitp-cp", "agents", "list", "--help"]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
CANARY = "key-canary-0123456789"


@pytest.mark.parametrize("variables", [{"AITP_CP_API_KEY": CANARY}, {"AITP_CP_API_KEY": ""}])
def test_a_wrong_or_missing_key(server: Process, variables: Any) -> None:
    refused = at(server, "audit", "list", "--json", **variables)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "INVALID_API_KEY" in refused.stderr
    assert CANARY not in refused.stderr
    assert at(server, "agents", "list", **variables).returncode == 0


def test_a_key_in_a_file(server: Process, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{API_KEY}\n")
    from_file: dict[str, Any] = {"AITP_CP_API_KEY": "", "AITP_CP_API_KEY_FILE": str(file)}
    assert at(server, "audit", "list", **from_file).returncode == 0
    both = at(server, "audit", "list", **from_file | {"AITP_CP_API_KEY": CANARY})
    assert both.returncode == 2
    assert "AITP_CP_API_KEY_FILE" in both.stderr
    assert CANARY not in both.stderr
    file.unlink()
    assert "cannot be read" in at(server, "audit", "list", **from_file).stderr


@pytest.mark.parametrize("url", ["cp.example", "http://user:canary@127.0.0.1:4000", "http://127.0.0.1:canary"])
def test_an_invalid_address(url: str) -> None:
    refused = run("agents", "list", AITP_CP_URL=url)
    assert refused.returncode == 2
    assert "AITP_CP_URL" in refused.stderr
    assert "canary" not in refused.stderr


@pytest.mark.parametrize("arguments", [("agents", "list"), ("events", "tail"), ("revocations", "verify")])
def test_an_unreachable_server(arguments: tuple[str, ...]) -> None:
    failed = run(*arguments, AITP_CP_URL=f"http://127.0.0.1:{free_port()}")
    assert (failed.returncode, failed.stdout) == (5, "")
    assert failed.stderr == "the connection was refused (UNREACHABLE)\n"


def test_wrong_usage(server: Process) -> None:
    for arguments in (
        ("agents", "list", "--status", "odd"),
        ("agents", "list", "--limit", "0"),
        ("events", "export", "--since", "soon"),
        ("agents", "show"),
        ("revoke",),
    ):
        assert at(server, *arguments).returncode == 2


@pytest.mark.parametrize(
    "arguments", [("agents", "list", "--status", "all"), ("events", "export"), ("agents", "list", "--json")]
)
def test_an_output_that_is_full_or_closed(server: Process, arguments: tuple[str, ...]) -> None:
    enrolled(server)
    with open("/dev/full", "wb") as full:
        done = leave(server, *arguments, stdout=full)
    assert done == (1, "standard output cannot be written: No space left on device\n")
    assert leave(server, *arguments, stdout=None) == (0, "")


def leave(server: Process, *arguments: str, stdout: BinaryIO | None) -> tuple[int, str]:
    """Run the command with this standard output, or with a closed one."""
    done = subprocess.run(
        [
            "sh",
            "-c",
            'exec "$@"' if stdout else 'exec "$@" >&-',
            "sh",
            sys.executable,
            "-m",
            "aitp_cp_client",
            *arguments,
        ],
        env=environment(AITP_CP_URL=server.url, AITP_CP_API_KEY=API_KEY),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_too_many_calls(database_url: str, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_API_KEY_PER_MIN": "1"}
    with Process(database_url, tmp_path / "log", RATE_LIMIT_WINDOW_MS="3600000", **limits) as limited:
        assert at(limited, "audit", "list").returncode == 0
        refused = at(limited, "audit", "list")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "RATE_LIMITED" in refused.stderr
    assert "retry in" in refused.stderr


def test_help_loads_little_and_explains_the_exit_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    *help, loaded = done.stdout.strip().splitlines()
    for heavy in ("aitp", "aiohttp", "asyncpg", "starlette", "uvicorn", "pydantic_settings", "msgspec", "asyncio"):
        assert heavy not in loaded.split()
    assert "3 not found" in " ".join(help)
    listed = said(run("--help"))
    for command in ("agents", "revoke", "revocations", "events", "sessions", "webhooks", "audit", "AITP_CP_URL"):
        assert command in listed

"""Runs the command: in this process where only its answer matters, else as a shell would."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from aitp_cp_client.commands.main import app
from tests.support.app import SECRET

SEED = "960ddd56a1de518dd321c51ffc7fba9b74e3114534371101d626204b9ba32d12"
GOOD: dict[str, Any] = {
    "CP_ENV": "production",
    "CP_AID_SEED_HEX": SEED,
    "ENROLLMENT_SECRET": SECRET,
    "API_KEYS": "a-key-of-the-operator",
    "CORS_ORIGIN": "https://console.example",
}


def environment(**variables: str) -> dict[str, str]:
    """Nothing of this process's own but what it takes to find Python."""
    given = {name: value for name, value in variables.items() if value}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C.UTF-8", **given}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, **variables: str) -> Done:
    """One of the commands that come back by themselves; an empty variable counts as unset."""
    result = CliRunner().invoke(app, arguments, env=variables)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def shell(*arguments: str, cwd: Path | None = None, **variables: str) -> Done:
    """The real command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "aitp_cp", *arguments],
        env=environment(**variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def said(done: Done) -> str:
    """Everything it printed, as one line: tables break sentences where they please."""
    text = done.stdout + done.stderr
    return " ".join(word for word in text.split() if not set(word) <= set("│┃┏┓┗┛┡┩└┘├┤┬┴┼─━┳╇┴"))

"""The README's stories, pasted as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import Process
from tests.support.processes import needs_curl
from tests.support.rendered import DOCS, ROOT

TEXT = (ROOT / "README.md").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like one in which `make run` has been called."""
    for name, target in (("examples", ROOT / "examples"), ("docs", DOCS), (".venv", Path(sys.prefix))):
        (tmp_path / name).symlink_to(target)
    (tmp_path / ".aitp-cp").mkdir()
    return tmp_path


def pasted(story: str) -> list[str]:
    """The blocks for the shell under the heading that begins like this."""
    (section,) = [part for part in TEXT.split("\n## ") if part.startswith(story)]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def shell(script: str, folder: Path) -> tuple[str, str]:
    needs_curl()
    done = subprocess.run(["bash", "-u"], input=script, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr


def test_the_first_three_stories(database_url: str, checkout: Path) -> None:
    with Process(database_url, checkout / "log", API_KEYS="") as server:
        (enrol,), (_, shake, report), (revoke,) = (pasted(f"{nth} story") for nth in ("First", "Second", "Third"))
        enrol, address = re.subn(r"^CP=http://127.0.0.1:4000$", f"CP={server.url}", enrol, flags=re.MULTILINE)
        assert address == 1

        told, errors = shell(enrol, checkout)
        assert errors == ""
        for shown in ('"displayName":"researcher"', '"type":"agent.registered"', '"action":"agent.register"'):
            assert shown in told
        assert told.endswith('"status":"deregistered"}')

        told, errors = shell(f"CP={server.url}\n{shake}", checkout)
        assert errors == ""
        (jti,) = re.findall(r"^jti=(.+)$", told, re.MULTILINE)
        assert '"status":"complete"' in told

        told, errors = shell(f"CP={server.url}\n{report}", checkout)
        assert errors == ""
        (aid,) = re.findall(r"^aid=(.+)$", told, re.MULTILINE)
        assert told.count(f'"reportedBy":"{aid}","proof":"signature"') == 2

        told, errors = shell(f"CP={server.url}\n{revoke}", checkout)
        assert told.splitlines()[0] == f"good: {jti}"
        assert f'"jti":"{jti}"' in told
        assert errors == "refused: TCT_REVOKED\n"


def test_the_receiver_of_the_fourth_story_is_the_one_of_its_page(checkout: Path) -> None:
    take, _ = pasted("Fourth story")[0].splitlines()
    assert shell(take, checkout) == ("", "")
    assert (checkout / ".aitp-cp" / "receiver.py").read_text() in (DOCS / "webhooks.md").read_text()
    assert (checkout / ".aitp-cp" / "receiver.py").read_text().endswith("serve_forever()\n")

"""docs/keys.md, pasted as it stands: from an empty production database to a revoked family."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from aitp_cp.protocol.scopes import ROLES, Role, Scope
from tests.support.app import API_KEY
from tests.support.process import Process
from tests.support.rendered import DOCS

TEXT = (DOCS / "keys.md").read_text()
STORY = ("The first key", "Create a key for each caller", "Rotate without an outage", "Revoke now")
KEY = re.compile(r"acp_[0-9A-Za-z]{39}")


def section(heading: str) -> str:
    (found,) = [part for part in TEXT.split("\n## ") if part.startswith(f"{heading}\n")]
    return found


def blocks(*headings: str) -> str:
    return "".join(
        block for heading in headings for block in re.findall(r"```sh\n(.*?)```", section(heading), re.DOTALL)
    )


def shell(script: str, home: Path, **variables: str) -> tuple[str, list[str]]:
    """Return standard output, and the lines of standard error."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", **variables}
    done = subprocess.run(
        ["bash", "-u"], input=script, env=environ, cwd=home, capture_output=True, text=True, timeout=90, check=False
    )
    return done.stdout, done.stderr.splitlines()


def test_the_story(empty_database_url: str, tmp_path: Path) -> None:
    first, told = shell(blocks(STORY[0]), tmp_path, DATABASE_URL=empty_database_url)
    assert told[0].startswith("first admin: key ")
    assert (tmp_path / "admin.key").stat().st_mode & 0o077 == 0
    production: dict[str, Any] = {"CP_ENV": "production", "API_KEYS": "", "CORS_ORIGIN": "https://console.example"}
    with Process(empty_database_url, tmp_path / "log", **production) as server:
        script, addresses = re.subn(r"AITP_CP_URL=\S+", f"AITP_CP_URL={server.url}", blocks(*STORY[1:]))
        assert addresses == 1
        shown, more = shell(script, tmp_path, DATABASE_URL=empty_database_url)
        log = server.log()
    told += more

    codes = re.findall(r"\(([A-Z_]+), request ", "\n".join(told))
    assert codes == ["SCOPE_MISSING", "API_KEY_EXPIRED", "API_KEY_REVOKED"], told
    assert "revocation:write" in next(line for line in told if "SCOPE_MISSING" in line)
    (actor, same) = re.findall(r"^actor +(key:\S+)$", shown, re.MULTILINE)
    assert actor == same
    assert len(re.findall(r"^revoked \S+$", shown, re.MULTILINE)) == 2
    audit = [line for line in shown.splitlines() if " key." in line]
    by_first_admin = [("key.revoke", True), ("key.revoke", True), ("key.rotate", True), ("key.create", True)]
    assert [(_action(line), "│ first admin │" in line) for line in audit] == [*by_first_admin, ("key.create", False)]
    assert "│ cli " in audit[-1]

    keys = {(tmp_path / name).read_text().strip() for name in ("admin.key", "nightly.key", "nightly.new")}
    assert len([key for key in keys if KEY.fullmatch(key)]) == 3
    assert KEY.findall("\n".join([log, first, shown, *told])) == []


def _action(line: str) -> str:
    (action,) = re.findall(r" (key\.[a-z]+) ", line)
    return str(action)


def test_a_key_of_the_environment_is_replaced(database_url: str, tmp_path: Path) -> None:
    _, told = shell(blocks("Keys in `API_KEYS`"), tmp_path, DATABASE_URL=database_url, OLD_KEY=API_KEY)
    assert told[0].startswith("orders service: key ")
    assert KEY.fullmatch((tmp_path / "orders.key").read_text().strip())


def test_every_role_and_scope_is_described() -> None:
    roles = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section("Roles and scopes"), re.MULTILINE))
    named = {role: frozenset(re.findall(r"`([a-z]+:[a-z]+)`", scopes)) for role, scopes in roles.items()}
    assert (named["auditor"], named["reporter"]) == (ROLES[Role.AUDITOR], ROLES[Role.REPORTER])
    assert named["operator"] == frozenset(Scope) - ROLES[Role.OPERATOR]
    assert re.findall(r"^\| `([a-z]+:[a-z]+)` \|", section("Roles and scopes"), re.MULTILINE) == list(Scope)

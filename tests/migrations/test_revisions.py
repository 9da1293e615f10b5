import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from aitp_cp.db import migrations
from aitp_cp.db.migrations import HEAD, REVISIONS, SchemaAhead, classify, needs_upgrade


def test_revisions_are_the_chain_that_alembic_sees() -> None:
    script = ScriptDirectory(Path(migrations.__file__).parent)
    chain = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(chain)) == REVISIONS
    assert script.get_heads() == [HEAD]
    assert all(len(revision) <= 32 for revision in REVISIONS)


def test_where_a_database_stands() -> None:
    assert classify(HEAD) == "head"
    assert classify(None) == "behind"
    assert {classify(revision) for revision in REVISIONS[:-1]} == {"behind"}
    assert classify("9999_from_the_future") == "ahead"


def test_only_a_known_older_database_needs_an_upgrade() -> None:
    assert not needs_upgrade(HEAD)
    assert needs_upgrade(None)
    with pytest.raises(SchemaAhead, match=f"9999_from_the_future, newer than {HEAD}"):
        needs_upgrade("9999_from_the_future")


def test_knowing_the_revisions_needs_no_migration_tool() -> None:
    question = "import sys, aitp_cp.db.migrations; print(sorted({'alembic', 'sqlalchemy'} & sys.modules.keys()))"
    response = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)
    assert response.stdout == "[]\n"

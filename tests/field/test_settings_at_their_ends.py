"""Every number that a setting takes, the greatest and the smallest included, is one that the process runs with."""

from typing import get_args

import pytest

from aitp_cp.settings import Settings
from tests.support.app import running_app
from tests.support.jobs import run_all

pytestmark = pytest.mark.anyio

ELSEWHERE = {"port", "db_pool_max"}  # of the test's own


def ends(bound: str) -> dict[str, str]:
    """Each number at its `le` or `ge`."""
    found = {
        name.upper(): str(getattr(rule, bound))
        for name, field in Settings.model_fields.items()
        if int in (field.annotation, *get_args(field.annotation)) and name not in ELSEWHERE
        for rule in field.metadata
        if getattr(rule, bound, None) is not None
    }
    assert len(found) > 30
    return found


@pytest.mark.parametrize("bound", ["le", "ge"])
async def test_jobs_and_pages_run(database_url: str, bound: str) -> None:
    """A time to live longer than the calendar once failed the sweep of every table."""
    async with running_app(database_url, **ends(bound)) as app:
        await run_all(app.rt)
        for path in (
            "/api/metrics",
            "/api/sessions",
            "/api/jobs",
            "/api/attention",
            "/.well-known/aitp-revocation-list",
        ):
            response = await app.get(path)
            assert response.status_code == 200, response.text

from typing import Any

import pytest

from tests.support.postgres import database_url, empty_database_url, pytest_configure, pytest_unconfigure

__all__ = ["database_url", "empty_database_url", "pytest_configure", "pytest_unconfigure"]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}

from collections.abc import AsyncIterator

import pytest

from aitp_cp_client import ControlPlane
from tests.support.app import API_KEY
from tests.support.process import Process
from tests.support.served import server

__all__ = ["server"]


@pytest.fixture
async def control_plane(server: Process) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(server.url, API_KEY) as client:
        yield client

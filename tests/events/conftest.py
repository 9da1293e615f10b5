import os

import pytest


@pytest.fixture
def server_url() -> str:
    """A database beside the test's own, from which that one can be closed to everybody."""
    return os.environ["AITP_TEST_SERVER_DSN"]

"""What a command says of a database that is away or refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from aitp_cp.cli.console import DATABASE, stop
from aitp_cp.errors import DatabaseUnavailable


@contextmanager
def failures_explained() -> Iterator[None]:
    """Leave with a sentence instead of a traceback; the driver's own texts may repeat the address with its password."""
    try:
        yield
    except DatabaseUnavailable:
        stop("the database cannot be reached; see DATABASE_URL and run `aitp-cp check`", DATABASE)
    except asyncpg.PostgresError as refused:  # such as a role that may not read, or a schema that is not there
        stop(f"the database refuses ({type(refused).__name__}); run `aitp-cp check`", DATABASE)

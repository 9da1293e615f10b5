"""PostgreSQL. Only this package uses the driver."""

from aitp_cp.db.pool import WRITABLE, Connection, Database, Record, UniqueViolation, ValueRefused, server_time
from aitp_cp.db.reserve import urgent
from aitp_cp.db.times import shown
from aitp_cp.db.where import Where

__all__ = [
    "WRITABLE",
    "Connection",
    "Database",
    "Record",
    "UniqueViolation",
    "ValueRefused",
    "Where",
    "server_time",
    "shown",
    "urgent",
]

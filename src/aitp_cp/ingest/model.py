"""What a reporter is told about its batch."""

import msgspec

from aitp_cp.protocol.reports import Problem


class IngestAnswer(msgspec.Struct, frozen=True):
    """`ingested` = `inserted` + `duplicates`; `errors` shows at most 20 of the `dropped` items."""

    ingested: int
    inserted: int
    duplicates: int
    dropped: int
    errors: list[Problem]

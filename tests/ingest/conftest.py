from tests.ingest.support import db

__all__ = ["db"]

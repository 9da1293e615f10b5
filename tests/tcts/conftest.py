from tests.ingest.support import app, db
from tests.support.shared import database_url, module_database_url

__all__ = ["app", "database_url", "db", "module_database_url"]

from tests.ingest.support import app
from tests.support.shared import database_url, module_database_url

__all__ = ["app", "database_url", "module_database_url"]

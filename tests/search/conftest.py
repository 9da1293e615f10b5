from tests.support.shared import database_url, module_database_url

__all__ = ["database_url", "module_database_url"]

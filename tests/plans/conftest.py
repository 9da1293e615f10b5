from tests.plans.support import filled_database_url

__all__ = ["filled_database_url"]

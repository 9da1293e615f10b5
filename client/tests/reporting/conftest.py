from tests.support.served import server

__all__ = ["server"]

"""Test ids that stay readable when a parameter is a hundred kilobytes long."""


def short(value: object) -> str:
    return repr(value if not isinstance(value, (bytes, str)) else value[:40])[:60]

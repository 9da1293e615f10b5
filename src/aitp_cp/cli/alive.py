"""The health check of a container: exits 0 when the process that HOST and PORT describe is alive.

It loads nothing but the standard library, because it runs every few seconds.
"""

import http.client
import os
import sys
from pathlib import Path

TIMEOUT_SECS = 2
# Where a process that listens on every address of a family is reached from the same machine.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


def main() -> int:
    host = _setting("HOST", "0.0.0.0").removeprefix("[").removesuffix("]")  # noqa: S104 - as above
    address, port = LOOPBACK.get(host, host), int(_setting("PORT", "4000"))
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_SECS)
    try:
        connection.request("GET", "/api/livez", headers={"Host": "localhost"})  # which no ALLOWED_HOSTS refuses
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as failure:
        return _unhealthy(f"{address} port {port}, as HOST and PORT say: {failure}")
    finally:
        connection.close()
    return 0 if status == 200 else _unhealthy(f"{address} port {port}: /api/livez answered {status}")


def _unhealthy(reason: str) -> int:
    """Print what the engine shows of a container's health; return the exit code."""
    print(reason, file=sys.stderr)
    return 1


def _setting(name: str, default: str) -> str:
    path = os.environ.get(f"{name}_FILE", "").strip()
    value = Path(path).read_text(encoding="utf-8") if path else os.environ.get(name, "")
    return value.strip() or default


if __name__ == "__main__":
    sys.exit(main())

"""The code that receivers are told to use accepts what is sent."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from tests.deliveries.support import delivering, ended, subscribe
from tests.support.process import free_port
from tests.support.receiver import Received, receiver

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()
SCRIPT, VERIFY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def a_delivery(database_url: str, secret: str) -> Received:
    async with receiver() as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url, secret=secret)
        await app.post(f"/api/webhooks/{webhook['id']}/test", {})
        await there.wait_for(1)
        return there.got[0]


async def test_the_python_code_verifies_a_delivery(database_url: str) -> None:
    functions: dict[str, Callable[..., Any]] = {}
    exec(VERIFY, functions)
    got = await a_delivery(database_url, "s\u00e9cret")
    assert functions["verified"]("s\u00e9cret", dict(got.headers), got.body)["eventType"] == "webhook.test"
    header = got.headers["x-aitp-signature"]
    assert functions["verified_by_hand"]("s\u00e9cret", header, got.body)
    assert not functions["verified_by_hand"]("secret", header, got.body)
    with pytest.raises(WebhookVerificationError):
        functions["verified"]("secret", dict(got.headers), got.body)


async def test_the_script_receives_a_delivery(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    script = tmp_path / "receiver.py"
    script.write_text(SCRIPT.replace("9000", str(port)))
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen([sys.executable, str(script), "the secret"], stdout=out, stderr=out)
    try:
        await listening(port)
        async with delivering(database_url) as app:
            webhook = await subscribe(app, f"http://127.0.0.1:{port}/", secret="the secret")
            await app.post(f"/api/webhooks/{webhook['id']}/test", {})
            (row,) = await ended(app, webhook, 1)
            assert row["statusCode"] == 204
        assert "webhook.test verified {" in (tmp_path / "out").read_text()
    finally:
        process.kill()
        process.wait()


async def listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            return

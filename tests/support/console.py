"""A browser that has signed in to the console: it sends its cookie, and says that its own pages send the forms."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import Any

import httpx

from aitp_cp.protocol.scopes import Role
from tests.keys.support import new_key
from tests.support.app import App

ORIGIN = "http://localhost:4000"  # where cookies are kept over plain HTTP
COOKIE = "acp-dev"


class Browser:
    """Keeps cookies as a browser does; `session` is the token of the session, None without one."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.cookies: dict[str, str] = {}

    @property
    def session(self) -> str | None:
        return self.cookies.get(COOKIE)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self._send("GET", path, **more)

    async def post(self, path: str, form: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        headers = {"Sec-Fetch-Site": "same-origin", **more.pop("headers", {})}
        return await self._send("POST", path, data=form or {"-": ""}, headers=headers, **more)

    async def sign_in(self, key: str, **form: str) -> httpx.Response:
        return await self.post("/console/login", {"key": key, **form})

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**({"Cookie": cookie} if cookie else {}), **more.pop("headers", {})}
        response = await self.http.request(method, path, headers=headers, **more)
        for line in response.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if not morsel.value:
                    del self.cookies[name]
        return response


@asynccontextmanager
async def browsing(app: App) -> AsyncIterator[Browser]:
    """A browser on the machine of the control plane, not signed in."""
    transport = app.http._transport
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as http:
        yield Browser(http)


@asynccontextmanager
async def signed_in(app: App, role: Role = Role.ADMIN, **key: Any) -> AsyncIterator[Browser]:
    """A browser with a session of a fresh key of this role; the application needs a key of the environment."""
    async with browsing(app) as browser:
        made = await new_key(app, role=str(role), **key)
        response = await browser.sign_in(made["key"])
        assert (response.status_code, browser.session is not None) == (303, True), response.text
        yield browser

"""The first screen."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import render, screen
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime


class OverviewView(msgspec.Struct, frozen=True):
    environment: str


async def overview(rt: Runtime, request: Request) -> Response:
    view = OverviewView("production" if rt.settings.production else "development")
    return await render(rt, request, "overview.html", view, title="Overview")


PAGES = (screen(path="/", handler=overview, scope=Scope.DASHBOARD_READ, nav="Overview"),)

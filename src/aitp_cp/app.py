"""Composes the rooms into the ASGI application."""

import msgspec

from aitp_cp import __version__
from aitp_cp.audit.routes import ENDPOINTS as AUDIT
from aitp_cp.dashboard.routes import ENDPOINTS as DASHBOARD
from aitp_cp.dashboard.routes import Screens
from aitp_cp.events.routes import ENDPOINTS as EVENTS
from aitp_cp.events.stream import Streams
from aitp_cp.events.tail import Tail
from aitp_cp.identity.routes import ENDPOINTS as IDENTITY
from aitp_cp.identity.service import OwnManifest
from aitp_cp.ingest.routes import ENDPOINTS as INGEST
from aitp_cp.ingest.writer import Writer
from aitp_cp.ops.figures import Figures
from aitp_cp.ops.health import DatabaseProbe
from aitp_cp.ops.routes import ENDPOINTS as OPS
from aitp_cp.registry.discovery import Discovery
from aitp_cp.registry.export import EXPORT
from aitp_cp.registry.routes import ENDPOINTS as REGISTRY
from aitp_cp.revocation.published import PublishedList
from aitp_cp.revocation.routes import ENDPOINTS as REVOCATION
from aitp_cp.runtime import Runtime
from aitp_cp.sessions.routes import ENDPOINTS as SESSIONS
from aitp_cp.tcts.routes import ENDPOINTS as TCTS
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.openapi import Document, document
from aitp_cp.web.routing import Router

# A fixed path is looked up before any pattern, so the order here is only the order of the document.
ENDPOINTS: tuple[Endpoint, ...] = (
    *OPS,
    *IDENTITY,
    *REGISTRY,
    EXPORT,
    *INGEST,
    *EVENTS,
    *SESSIONS,
    *TCTS,
    *REVOCATION,
    *DASHBOARD,
    *AUDIT,
)


def openapi_document() -> bytes:
    return msgspec.json.encode(document(ENDPOINTS, __version__))


async def open_app(rt: Runtime) -> Edge:
    """The application of one process; what it starts, the runtime's exit stack stops.

    Raises `DatabaseUnavailable`: the log is followed before the first request is served.
    """
    tail = Tail(rt)
    figures = Figures(rt)
    published = PublishedList(rt, tail.behind)
    writer = Writer(rt)
    discovery = Discovery()
    tail.on_events(discovery.on_events)
    tail.on_events(figures.on_events)
    tail.on_events(published.on_events)
    for part in (
        DatabaseProbe(rt),
        OwnManifest(rt),
        Document(openapi_document()),
        Screens(),
        discovery,
        Streams(rt, tail),
        tail,
        figures,
        published,
        writer,
    ):
        rt.add(part)
    rt.stack.push_async_callback(writer.stop)
    await tail.start()
    rt.stack.push_async_callback(tail.stop)
    published.start()
    rt.stack.push_async_callback(published.stop)
    return Edge(rt, Router(rt, ENDPOINTS))

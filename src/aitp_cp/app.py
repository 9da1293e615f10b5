"""Composes the rooms into the ASGI application."""

from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from aitp_cp import __version__
from aitp_cp.accounts.edge import BrowserSessions
from aitp_cp.accounts.service import Accounts
from aitp_cp.agent_auth.access import AgentAccess
from aitp_cp.agent_auth.routes import ENDPOINTS as AGENT_AUTH
from aitp_cp.audit.routes import ENDPOINTS as AUDIT
from aitp_cp.audit.store import RECORDED_CHANNEL
from aitp_cp.console.bell import Bell
from aitp_cp.console.refusal import ConsoleEdge
from aitp_cp.console.routes import ENDPOINTS as CONSOLE
from aitp_cp.console.routes import ENTRIES
from aitp_cp.console.shell import Console
from aitp_cp.containment.routes import ENDPOINTS as CONTAINMENT
from aitp_cp.dashboard.first_screen import FirstScreens
from aitp_cp.dashboard.routes import ENDPOINTS as DASHBOARD
from aitp_cp.dashboard.routes import Screens
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.enqueuer import Enqueuer
from aitp_cp.deliveries.routes import ENDPOINTS as DELIVERIES
from aitp_cp.events.routes import ENDPOINTS as EVENTS
from aitp_cp.events.routes import KnownTypes
from aitp_cp.events.stream import Streams
from aitp_cp.events.tail import Tail
from aitp_cp.identity.routes import ENDPOINTS as IDENTITY
from aitp_cp.identity.service import OwnManifest
from aitp_cp.ingest.routes import ENDPOINTS as INGEST
from aitp_cp.ingest.verifier import Verifier
from aitp_cp.ingest.writer import Writer
from aitp_cp.keys.cache import KeyCache
from aitp_cp.keys.routes import ENDPOINTS as KEYS
from aitp_cp.notes.routes import ENDPOINTS as NOTES
from aitp_cp.ops.attention import AttentionLines
from aitp_cp.ops.figures import Figures
from aitp_cp.ops.health import DatabaseProbe
from aitp_cp.ops.heartbeat import Heartbeat
from aitp_cp.ops.routes import ENDPOINTS as OPS
from aitp_cp.ops.routes import Exposition
from aitp_cp.outbound import GuardedClient, Policy, policy_of
from aitp_cp.protocol.agent_token import AgentTokens
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.registry.export import EXPORT
from aitp_cp.registry.routes import ENDPOINTS as REGISTRY
from aitp_cp.registry.store import MOVED_CHANNEL
from aitp_cp.revocation.holders import Holders
from aitp_cp.revocation.published import PublishedList
from aitp_cp.revocation.routes import ENDPOINTS as REVOCATION
from aitp_cp.revocation.writer import Revoker
from aitp_cp.runtime import Runtime
from aitp_cp.search.routes import ENDPOINTS as SEARCH
from aitp_cp.sessions.routes import ENDPOINTS as SESSIONS
from aitp_cp.settings import Settings
from aitp_cp.tcts.routes import ENDPOINTS as TCTS
from aitp_cp.truststore.refresher import JwksRefresher
from aitp_cp.truststore.routes import ENDPOINTS as TRUSTSTORE
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.openapi import Document, document
from aitp_cp.web.routing import Router
from aitp_cp.webhooks.routes import ENDPOINTS as WEBHOOKS

if TYPE_CHECKING:
    from aitp_cp.accounts.oidc import Provider

# What programs call; the console's pages join it in `open_app`.
# A fixed path is looked up before any pattern, so the order here is only the order of the document.
ENDPOINTS: tuple[Endpoint, ...] = (
    *OPS,
    *IDENTITY,
    *REGISTRY,
    EXPORT,
    *NOTES,
    *CONTAINMENT,
    *AGENT_AUTH,
    *INGEST,
    *EVENTS,
    *SESSIONS,
    *TCTS,
    *REVOCATION,
    *WEBHOOKS,
    *DELIVERIES,
    *TRUSTSTORE,
    *KEYS,
    *DASHBOARD,
    *SEARCH,
    *AUDIT,
)


def openapi_document() -> bytes:
    return msgspec.json.encode(document(ENDPOINTS, __version__))


async def open_app(rt: Runtime) -> Edge:
    """Return the application of one process; what it starts, the runtime's exit stack stops.

    Raises `DatabaseUnavailable`: the log is followed before the first request is served.
    """
    tail = Tail(rt)
    tokens = AgentTokens(rt.settings.enrollment_secret.get_secret_value().encode())
    own = (DatabaseProbe(rt), Exposition(rt), OwnManifest(rt), Document(openapi_document()), tokens)
    for part in (*own, KnownTypes(), AttentionLines(), FirstScreens(), Accounts(rt.settings), Streams(rt, tail), tail):
        rt.add(part)
    _open_outbound(rt, tail)
    await _open_followers(rt, tail)
    agents, browsers = AgentAccess(rt), BrowserSessions(rt, rt.get(Accounts), _provider(rt))
    rt.add(browsers)
    browsers.start()
    rt.stack.push_async_callback(browsers.stop)
    return _edge(rt, agents, browsers)


def _edge(rt: Runtime, agents: AgentAccess, browsers: BrowserSessions) -> Edge:
    """Return the API, and the console unless it is switched off."""
    credentials = (rt.get(KeyCache), agents)
    if not rt.settings.console_enabled:
        return Edge(rt, Router(rt, ENDPOINTS, credentials, agents, browsers))
    rt.add(Console(rt, ENTRIES))
    return Edge(rt, Router(rt, (*ENDPOINTS, *CONSOLE), credentials, agents, browsers), ConsoleEdge(rt, CONSOLE))


def _provider(rt: Runtime) -> "Provider | None":
    """Return the provider of single sign-on; its library is an extra, so only a process that uses it imports it."""
    if rt.settings.oidc_issuer is None:
        return None
    client = GuardedClient(_elsewhere(rt.settings), on_call=rt.tracer.call)
    provider: Provider = import_module("aitp_cp.accounts.oidc").Provider(rt, client)
    return provider


def _elsewhere(settings: Settings) -> Policy:
    """Return the policy for identity providers: the allowlist names the hosts of webhooks."""
    return Policy(settings.production, (), settings.webhook_allowed_cidrs)


def _open_outbound(rt: Runtime, tail: Tail) -> None:
    """What asks other servers; only a process that runs the shared jobs starts it."""
    settings = rt.settings
    webhooks = GuardedClient(policy_of(settings), on_call=rt.tracer.call)
    providers = GuardedClient(_elsewhere(settings), on_call=rt.tracer.call)
    dispatcher, refresher = Dispatcher(rt, webhooks), JwksRefresher(rt, providers)
    enqueuer = Enqueuer(rt, dispatcher.wake)
    tail.on_events(enqueuer.on_events)
    for woken in (enqueuer.on_reset, dispatcher.wake):
        tail.on_reset(woken)
    for part in (webhooks, dispatcher, enqueuer, refresher):
        rt.add(part)
    for end in (refresher.stop, dispatcher.stop, enqueuer.stop):
        rt.stack.push_async_callback(end)


async def _open_followers(rt: Runtime, tail: Tail) -> None:
    """What follows the log, then the log itself, then what needs its position."""
    published = PublishedList(rt, tail.behind)
    rt.add(holders := Holders(rt))
    rt.stack.push_async_callback(holders.stop)
    cache = RegistryCache(rt, tail.behind)
    keys = KeyCache(rt, tail.behind)
    tail.on_notice(MOVED_CHANNEL, cache.on_moved)
    bell = Bell(rt, tail)
    tail.on_notice(RECORDED_CHANNEL, bell.on_audited)
    for follower in (keys, cache, Screens(rt), Figures(rt), published, bell):
        tail.on_events(follower.on_events)
        tail.on_reset(follower.on_reset)
        rt.add(follower)
    rt.add(verifier := Verifier(rt.settings.observed_artifact_verification, rt.metrics))
    rt.stack.callback(verifier.stop)
    for writer in (Writer(rt), Revoker(rt, published)):
        rt.add(writer)
        rt.stack.push_async_callback(writer.stop)
    rt.add(heartbeat := Heartbeat(rt))
    rt.stack.push_async_callback(heartbeat.stop)
    await tail.start()
    rt.stack.push_async_callback(tail.stop)
    await keys.open()
    rt.stack.push_async_callback(keys.stop)
    published.start()
    rt.stack.push_async_callback(published.stop)

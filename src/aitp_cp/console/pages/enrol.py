"""Check a manifest before it is registered, and mint its enrollment token."""

from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import service as audit
from aitp_cp.audit.routes import actor_of
from aitp_cp.console import forms
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.db import server_time
from aitp_cp.errors import AgentContained, BodyInvalid, ManifestExpired, ManifestInvalid, ProofRequired
from aitp_cp.protocol.manifest import MIN_TIME_LEFT, Manifest
from aitp_cp.protocol.namespace import DEFAULT_NAMESPACE
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import contained, enrolment, standing
from aitp_cp.registry import store as registry
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.registry.lookalikes import mixes_scripts
from aitp_cp.registry.model import AgentView, Namesake, NamespaceWish
from aitp_cp.registry.routes import secret_of, verified
from aitp_cp.runtime import Runtime

FORM_BYTES = 256 * 1024  # a manifest of 64 KiB, as a form writes it
REASONS = {
    "signature_invalid": "its signature is not that of its AID over these members: it was changed after it was signed",
    "pop_failed": "its proof of possession does not verify: whoever made it may not hold the key",
    "aid_mismatch": "its AID does not belong to the key that it names",
    "expired": "it has expired: the agent must sign a new one",
    "version_unknown": "its protocol version is not one that this control plane knows",
    "identity_hint_malformed": "its identity hint is not of the form that its type asks for",
    "incompatible_identity_type": "it does not accept the type of identity that it has itself",
    "unknown_field": "it has a member that the protocol does not know",
    "malformed": "it is not a manifest: a member is missing, null, or of a wrong type",
}


class Problem(msgspec.Struct, frozen=True):
    sentence: str
    code: str
    reason: str | None


class Checked(msgspec.Struct, frozen=True):
    """A manifest that verifies: what it claims, who is registered under its AID, and whose name looks like its own."""

    manifest: Manifest
    namespace: str
    registered: AgentView | None
    namesakes: list[Namesake]
    mixed: bool


class Minted(msgspec.Struct, frozen=True):
    """Shown this once."""

    token: str
    expires_at: datetime


class EnrolView(msgspec.Struct, frozen=True):
    text: str
    problem: Problem | None = None
    checked: Checked | None = None
    minted: Minted | None = None


async def show(rt: Runtime, request: Request, form: Form | None = None) -> Response:
    """Show the form; with a manifest in it, what that claims."""
    async with rt.db.connection() as conn:  # the page needs no row, but what it offers does
        await server_time(conn)
    form = form or forms.sent(request)  # of an action that was refused
    view = EnrolView("") if form is None else await _view(rt, form.get("manifest"))
    return await render(rt, request, "enrol.html", view, title="Enrol an agent")


async def mint(rt: Runtime, request: Request, form: Form) -> Response:
    """Mint a token as the API does, with a row in the audit, for a person has seen it."""
    view = await _view(rt, form.get("manifest"))
    if view.checked is not None:
        now = rt.clock()
        made = enrolment.enroll(secret_of(rt), view.checked.manifest, now)
        async with rt.db.transaction() as conn:
            await audit.record(conn, "agent.enroll", actor_of(rt, request), made.aid, {"jti": made.jti}, now)
        view = msgspec.structs.replace(view, minted=Minted(made.token, datetime.fromtimestamp(made.exp, UTC)))
    return await render(rt, request, "enrol.html", view, title="Enrol an agent", secret=True)


async def register(rt: Runtime, request: Request, form: Form) -> Response:
    """Register the agent in its stead, by a token that nobody sees: the manifest proves that it holds its key."""
    view = await _view(rt, form.get("manifest"))
    if view.checked is None:
        return await render(rt, request, "enrol.html", view, title="Enrol an agent")
    if rt.settings.enrolment == "proof":
        raise ProofRequired
    manifest, now = view.checked.manifest, rt.clock()
    claims = enrolment.check_token(secret_of(rt), enrolment.enroll(secret_of(rt), manifest, now).token, manifest, now)
    wish = NamespaceWish(enrolment.requested_namespace(None, manifest), proven=False)
    async with rt.get(RegistryCache).changing(manifest.aid, {None, *manifest.offered_caps}) as conn:
        await enrolment.register(conn, manifest, claims, wish, actor_of(rt, request), now)
    return see_other(link("/agents/{aid}", aid=manifest.aid))


async def _view(rt: Runtime, text: str) -> EnrolView:
    try:
        return EnrolView(text, checked=await _checked(rt, text))
    except (BodyInvalid, ManifestInvalid, ManifestExpired, AgentContained) as refused:
        code = refused.extra.get("verifyCode")
        reason = None if code is None else REASONS.get(str(code), str(code))
        return EnrolView(text, problem=Problem(refused.message, refused.code, reason))


async def _checked(rt: Runtime, text: str) -> Checked:
    manifest = await verified(rt, text.encode(), MIN_TIME_LEFT)
    name, now = manifest.display_name, rt.clock()
    async with rt.db.connection() as conn:
        await contained.check_free(conn, manifest.aid)
        known = next(iter(await registry.find_all(conn, [manifest.aid], now)), None)
        namesakes = await standing.namesakes(conn, name, manifest.aid, now)
    usual = known.namespace if known is not None else DEFAULT_NAMESPACE
    return Checked(manifest, manifest.namespace or usual, known, namesakes, mixes_scripts(name))


PAGES = (
    screen("/agents/enrol", show, scope=Scope.AGENTS_READ),
    action("/agents/enrol", show, scope=Scope.AGENTS_READ, body_limit=FORM_BYTES),
    action("/agents/enrol/token", mint, scope=Scope.AGENTS_WRITE, body_limit=FORM_BYTES),
    action("/agents/enrol/register", register, scope=Scope.AGENTS_WRITE, body_limit=FORM_BYTES),
)

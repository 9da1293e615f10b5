"""What a revocation takes with it, shown before it is done; shared by the pages of tokens and of delegations."""

import hashlib
from collections.abc import Iterable
from uuid import UUID

import msgspec
from starlette.requests import Request

from aitp_cp.accounts.service import require_fresh
from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BadRequest
from aitp_cp.protocol.signer import signable
from aitp_cp.revocation import service
from aitp_cp.revocation.model import MAX_REASON, NewRevocation, RevocationView, Submission
from aitp_cp.revocation.writer import Revoker
from aitp_cp.runtime import Runtime
from aitp_cp.tcts.queries import MAX_TREE_DEPTH, MAX_TREE_ROWS
from aitp_cp.tcts.views import DelegationView


class RevocationPlan(msgspec.Struct, frozen=True):
    """`below` counts live delegations, as far as they are `shown`: more may hang below them."""

    jti: UUID
    listable: bool  # the signed list holds ids of version 4 only
    entry: RevocationView | None  # on the deny list already
    below: int
    cut: bool
    digest: str
    max_rows: int = MAX_TREE_ROWS
    max_depth: int = MAX_TREE_DEPTH


async def plan_of(conn: Connection, jti: UUID, tree: Iterable[DelegationView]) -> RevocationPlan:
    """Return what revoking `jti` takes with it: `tree` is what is delegated from it."""
    rows = list(tree)
    live = sorted(str(row.jti) for row in rows if not row.revoked and row.jti != jti)
    entries = (await service.page(conn, jti, Window(1))).entries
    digest = hashlib.sha256(",".join((str(jti), *live)).encode()).hexdigest()
    cut = len(rows) >= MAX_TREE_ROWS
    return RevocationPlan(jti, signable(str(jti)), entries[0] if entries else None, len(live), cut, digest[:32])


async def revoke(rt: Runtime, request: Request, form: Form, plan: RevocationPlan, back: str) -> bool:
    """Revoke what the form was shown; False when that has changed since. Raises `StepUpRequired`, `BadRequest`."""
    require_fresh(rt, request, back)
    reason = form.get("reason")
    if len(reason) > MAX_REASON:
        raise BadRequest(f"a reason has at most {MAX_REASON} characters")
    if form.get("expect") != plan.digest:
        return False
    actor = actor_of(rt, request)
    wanted = service.read(NewRevocation(str(plan.jti), reason=reason or None), actor, rt.clock())
    await rt.get(Revoker).submit(Submission(wanted, None))
    return True

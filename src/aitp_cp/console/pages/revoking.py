"""What a revocation takes with it, shown before it is done; shared by the pages of tokens and of delegations."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

import msgspec
from starlette.requests import Request

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


class RevocationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`below` counts the live delegations; where the tree is `cut`, more may hang below them.

    `page` is the address that shows the plan; `changed` tells that it was another one when it was confirmed.
    """

    jti: UUID
    page: str
    listable: bool  # the signed list holds ids of version 4 only
    entry: RevocationView | None  # on the deny list already
    below: int
    cut: bool
    digest: str
    changed: bool
    max_rows: int = MAX_TREE_ROWS
    max_depth: int = MAX_TREE_DEPTH


async def plan_of(
    conn: Connection, jti: UUID, tree: Sequence[DelegationView], *, page: str, form: Form | None
) -> RevocationPlan:
    """Return what revoking `jti` takes with it: `tree` is what is delegated from it, `form` confirms a plan."""
    live = sorted(str(row.jti) for row in tree if not row.revoked and row.jti != jti)
    digest = hashlib.sha256(",".join((str(jti), *live)).encode()).hexdigest()[:32]
    entries = (await service.page(conn, jti, Window(1))).entries
    return RevocationPlan(
        jti=jti,
        page=page,
        listable=signable(str(jti)),
        entry=entries[0] if entries else None,
        below=len(live),
        cut=len(tree) >= MAX_TREE_ROWS,
        digest=digest,
        changed=form is not None and form.get("expect") != digest,
    )


async def revoke(rt: Runtime, request: Request, form: Form, plan: RevocationPlan) -> bool:
    """Revoke what the form confirms; False when that has changed. Raises `BadRequest`."""
    reason = form.get("reason")
    if len(reason) > MAX_REASON:
        raise BadRequest(f"a reason has at most {MAX_REASON} characters")
    if plan.changed:
        return False
    actor = actor_of(rt, request)
    revocation = service.read(NewRevocation(str(plan.jti), reason=reason or None), actor, rt.clock())
    await rt.get(Revoker).submit(Submission(revocation, None))
    return True

"""Forms whose answer shows a secret: what they make is made once, however often they are sent."""

import msgspec
from starlette.requests import Request

from aitp_cp.console.forms import Form
from aitp_cp.errors import BadRequest
from aitp_cp.idempotency.service import Effect, once_for, run_once
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of


async def make_once(rt: Runtime, request: Request, form: Form, name: str, effect: Effect) -> object:
    """Return what the effect answers; of a form that was sent again, as a reload does, what is kept without a secret.

    `name` is the page of the form. Raises `BadRequest` and what the effect was refused with.
    """
    once = read_uuid(form.get("once"))
    if once is None:
        raise BadRequest(f"the form is not whole: open the page of {name} again")
    place = once_for(f"console.{name}", context_of(request).actor, str(once), msgspec.json.encode(form.fields))
    response = await run_once(rt.db, place, effect, rt.clock())
    if response.refusal is not None:
        raise response.refusal
    return response.body

"""Events as they are reported: about handshakes, tokens and delegations in the SDK's forms."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

import msgspec

from aitp_cp_client.reporting.model import MAX_BATCH_BYTES, EventFields
from aitp_cp_client.wire import base64url, times

Role = Literal["initiator", "responder"]
Token = dict[str, Any]

_encoder = msgspec.json.Encoder()


class Unreportable(ValueError):
    """An event that cannot be sent; says why, without repeating it."""


def encode_event(id: str, type: str, fields: EventFields) -> bytes:
    """Return the event as JSON, with its id and the time of this call; raises `Unreportable`."""
    event = {"id": id, "type": type, "ts": None, **{name: value for name, value in fields.items() if value is not None}}
    if event["ts"] is None:
        event["ts"] = times.iso(times.now())
    try:
        encoded = _encoder.encode(event)
    except Exception as error:  # what a payload's own objects raise is not known
        raise Unreportable(f"the event cannot be written as JSON: {type_name(error)}") from None
    if len(encoded) > MAX_BATCH_BYTES - 2:
        raise Unreportable(f"the event has more than {MAX_BATCH_BYTES - 2} bytes")
    return encoded


def new_id() -> str:
    return str(uuid4())


def read_token(text: str) -> Token:
    """Return a token of the SDK with its claims, as reports carry it.

    `text` is the compact token, or the JSON of `complete`, `process_commit` or `issue_tct_for_delegatee`, of which
    the token is taken and never the grant voucher. Raises `Unreportable`.
    """
    try:
        token = msgspec.json.decode(text)["tct"] if text.lstrip().startswith("{") else text
        part = token.split(".")[1]
        claims = msgspec.json.decode(base64url.decode(part), type=dict[str, Any])
    except Exception:
        raise Unreportable("this is not a token in the SDK's form") from None
    return {"token": token, "claims": claims}


def completed(session_id: str, token: Token, role: Role) -> EventFields:
    """Return a completed handshake as the side that holds `token` reports it."""
    sides = _parties(token)
    aid_a, aid_b = sides if role == "initiator" else sides[::-1]
    payload = {"role": role, "tct": token}
    return {"session_id": session_id, "aid_a": aid_a, "aid_b": aid_b, "grants": _grants(token), "payload": payload}


def issued(token: Token) -> EventFields:
    """Return a token as its issuer or its holder reports it."""
    holder, issuer = _parties(token)
    return {"aid_a": issuer, "aid_b": holder, "grants": _grants(token), "payload": {"tct": token}}


def delegated(token: Token) -> EventFields:
    """Return a delegation: from the agent that signed it to the one that may now act."""
    holder, issuer = _parties(token)
    return {"aid_a": issuer, "aid_b": holder, "grants": _grants(token), "payload": {"delegation": token}}


def _parties(token: Token) -> tuple[str | None, str | None]:
    """Return holder and issuer."""
    claims: Mapping[str, Any] = token["claims"]
    return _text(claims.get("sub")), _text(claims.get("iss"))


def _grants(token: Token) -> list[str] | None:
    claims: Mapping[str, Any] = token["claims"]
    grants = claims.get("scope") or claims.get("grants")
    return [grant for grant in grants if isinstance(grant, str)] if isinstance(grants, list) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def text_of(error: BaseException | str) -> str:
    """Return the code of an exception of the SDK, the name of another one, or the text itself."""
    return error if isinstance(error, str) else str(getattr(error, "code", None) or type_name(error))


def type_name(error: BaseException) -> str:
    return type(error).__name__

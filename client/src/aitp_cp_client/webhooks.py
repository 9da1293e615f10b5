"""Webhooks, deliveries and circuit breakers."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID, uuid4

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Response, Transport, encode, segment
from aitp_cp_client.wire.times import written

WEBHOOKS = "/api/webhooks"


class Webhook(msgspec.Struct, frozen=True, rename="camel"):
    """A subscription; empty `events` means all deliverable types."""

    id: UUID
    url: str
    events: list[str]
    active: bool
    created_at: datetime
    updated_at: datetime


class MovedWebhook(Webhook, frozen=True, rename="camel"):
    """A webhook after a change of scheme, host or port; `secret` is new and shown only in this response."""

    secret: str = ""

    def __repr__(self) -> str:  # the secret must not get into a log
        return f"MovedWebhook({self.id}, {self.url!r})"


class Delivery(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    event_type: str
    status: str
    attempts: int
    status_code: int | None
    error: str | None
    created_at: datetime
    delivered_at: datetime | None
    next_retry_at: datetime | None


class Attempt(msgspec.Struct, frozen=True, rename="camel"):
    """One attempt of a delivery. `response_head` is what the receiver sent, untrusted; `truncated`: not all of it."""

    n: int
    at: datetime
    ms: int
    status: int | None
    error: str | None
    response_head: str | None
    truncated: bool


class Outcomes(msgspec.Struct, frozen=True):
    """What became of the deliveries of a span of time; each count ends at 10,001."""

    delivered: int
    failed: int
    waiting: int


class WebhookHealth(msgspec.Struct, frozen=True, rename="camel"):
    """How a webhook fares; `p95_ms` is of the newest attempts of a day."""

    active: bool
    deactivated_reason: str | None
    breaker: str
    failures: int
    opened_at: datetime | None
    next_probe_at: datetime | None
    last_hour: Outcomes
    last_day: Outcomes
    waiting: int
    oldest_waiting_at: datetime | None
    p95_ms: int | None


class Queued(msgspec.Struct, frozen=True, rename="camel"):
    """What one call queued, of how many; where there is `more`, go on with `after=next_after`."""

    matched: int
    queued: int
    more: bool
    next_after: str | None = None


class DeliveryFilter(TypedDict, total=False):
    """Which deliveries; `code` is `503`, `5xx` or `none`, times are inclusive."""

    type: str | None
    code: str | None
    since: datetime | None
    until: datetime | None


class Selection(DeliveryFilter, total=False):
    """Which deliveries to send again: these `ids`, or all that match the other members."""

    ids: Sequence[UUID | str] | None
    status: Literal["delivered", "failed"] | None


class Step(TypedDict, total=False):
    """How much one call does, and where it begins."""

    limit: int
    after: str | None
    dry_run: bool


class Breaker(msgspec.Struct, frozen=True, rename="camel"):
    """Times in epoch milliseconds."""

    state: str
    failures: int
    consecutive_successes: int
    opened_at: int | None
    next_probe_at: int | None


class Webhooks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(self, limit: int = 1000, offset: int = 0, before: str | None = None) -> Rows[Webhook]:
        """Return at most 10,000 webhooks, oldest first."""
        params = {"limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Webhook, "webhooks", WEBHOOKS, params)

    def each(self) -> AsyncIterator[Webhook]:
        """Iterate over all webhooks, page by page."""
        return rows(self.page)

    async def get(self, id: UUID | str) -> Webhook:
        return await self._transport.ask(Webhook, _path(id))

    async def create(
        self, url: str, secret: str | None = None, events: Sequence[str] = (), active: bool = True
    ) -> tuple[Webhook, str]:
        """Create a webhook; return it with the secret that signs its deliveries.

        The client generates a missing secret: a secret from the server would be lost with a lost response.
        """
        secret = secret or secrets.token_hex(32)
        fields = {"url": url, "secret": secret, "events": events, "active": active}
        return await self._transport.create(Webhook, WEBHOOKS, fields), secret

    async def update(
        self,
        id: UUID | str,
        *,
        url: str | None = None,
        secret: str | None = None,
        events: Sequence[str] | None = None,
        active: bool | None = None,
    ) -> Webhook | MovedWebhook:
        """Change the members that are not None. A new host without `secret` gets a new one, shown only here."""
        fields = {"url": url, "secret": secret, "events": events, "active": active}
        call = Call(method="PATCH", path=_path(id), body=encode(fields), repeatable=False)
        response = await self._transport.send(call)
        moved = response.read(MovedWebhook)
        return moved if moved.secret else response.read(Webhook)

    async def delete(self, id: UUID | str) -> None:
        """Delete a webhook and its deliveries. 404 after a retry may mean that the first attempt succeeded."""
        await self._transport.send(Call(method="DELETE", path=_path(id)))

    async def deliveries(
        self,
        id: UUID | str,
        status: str | None = None,
        limit: int = 100,
        offset: int = 0,
        before: str | None = None,
        **filters: Unpack[DeliveryFilter],
    ) -> Rows[Delivery]:
        """Return at most 1000 deliveries, newest first."""
        params = {"status": status, "limit": limit, "offset": offset, "before": before, **written(filters)}
        return await self._transport.page(Delivery, "deliveries", f"{_path(id)}/deliveries", params)

    def each_delivery(
        self, id: UUID | str, status: str | None = None, **filters: Unpack[DeliveryFilter]
    ) -> AsyncIterator[Delivery]:
        """Iterate over all deliveries, page by page."""
        return rows(partial(self.deliveries, id, status, **filters))

    async def attempts(
        self, id: UUID | str, delivery_id: UUID | str, limit: int = 100, offset: int = 0, before: str | None = None
    ) -> Rows[Attempt]:
        """Return the attempts of a delivery, newest first."""
        path = f"{_path(id)}/deliveries/{segment(delivery_id)}/attempts"
        params = {"limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Attempt, "attempts", path, params)

    async def health(self, id: UUID | str) -> WebhookHealth:
        """Return what became of the webhook's deliveries lately, and what waits."""
        return await self._transport.ask(WebhookHealth, f"{_path(id)}/health")

    async def recover(
        self, id: UUID | str, since: datetime, until: datetime | None = None, **step: Unpack[Step]
    ) -> Queued:
        """Send the failed deliveries of a span of time again."""
        return await self._bulk(f"{_path(id)}/recover", {"since": since, "until": until}, step)

    async def replay_missing(
        self, id: UUID | str, since: datetime, until: datetime | None = None, **step: Unpack[Step]
    ) -> Queued:
        """Send the events of a span of time that have no delivery to the webhook."""
        return await self._bulk(f"{_path(id)}/replay-missing", {"since": since, "until": until}, step)

    async def resend(self, id: UUID | str, selection: Selection, **step: Unpack[Step]) -> Queued:
        """Send finished deliveries again, byte for byte."""
        return await self._bulk(f"{_path(id)}/resend", selection, step)

    async def _bulk(self, path: str, selection: Mapping[str, Any], step: Step) -> Queued:
        """Queue what is selected; under a key of its own, so that a repeated call does it once."""
        fields = written({**selection, "limit": step.get("limit"), "after": step.get("after")})
        params = {"dryRun": True} if step.get("dry_run") else {}
        headers = {"Idempotency-Key": str(uuid4())}
        call = Call(method="POST", path=path, params=params, headers=headers, body=encode(fields))
        return (await self._transport.send(call)).read(Queued)

    async def redeliver(self, id: UUID | str, delivery_id: UUID | str) -> Delivery:
        """Send a delivery again, byte for byte."""
        return (await self._post(f"{_path(id)}/deliveries/{segment(delivery_id)}/redeliver")).read(Delivery)

    async def test(self, id: UUID | str) -> Delivery:
        """Send a delivery of type `webhook.test`."""
        return (await self._post(f"{_path(id)}/test")).read(Delivery)

    async def breaker(self, id: UUID | str) -> Breaker:
        return await self._transport.ask(Breaker, f"{_path(id)}/circuit-breaker")

    async def reset_breaker(self, id: UUID | str) -> Breaker:
        return (await self._post(f"{_path(id)}/circuit-breaker/reset")).read(Breaker)

    async def _post(self, path: str) -> Response:
        return await self._transport.send(Call(method="POST", path=path, repeatable=False))


def _path(id: UUID | str) -> str:
    return f"{WEBHOOKS}/{segment(id)}"

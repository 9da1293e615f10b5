"""Webhooks, deliveries and circuit breakers."""

import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Answer, Call, Transport, encode, segment

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


class Breaker(msgspec.Struct, frozen=True, rename="camel"):
    """Times in epoch milliseconds."""

    state: str
    failures: int
    consecutive_successes: int
    opened_at: int | None
    next_probe_at: int | None


class _Page(msgspec.Struct, rename="camel"):
    webhooks: list[Webhook]
    next_before: str | None = None


class _Deliveries(msgspec.Struct, rename="camel"):
    deliveries: list[Delivery]
    next_before: str | None = None


class Webhooks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(self, limit: int = 1000, offset: int = 0, before: str | None = None) -> Rows[Webhook]:
        """Return at most 10,000 webhooks, oldest first."""
        page = await self._transport.ask(_Page, WEBHOOKS, {"limit": limit, "offset": offset, "before": before})
        return Rows(page.webhooks, page.next_before)

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
        answer = await self._transport.send(call)
        moved = answer.read(MovedWebhook)
        return moved if moved.secret else answer.read(Webhook)

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
    ) -> Rows[Delivery]:
        """Return at most 1000 deliveries, newest first."""
        params = {"status": status, "limit": limit, "offset": offset, "before": before}
        page = await self._transport.ask(_Deliveries, f"{_path(id)}/deliveries", params)
        return Rows(page.deliveries, page.next_before)

    def each_delivery(self, id: UUID | str, status: str | None = None) -> AsyncIterator[Delivery]:
        """Iterate over all deliveries, page by page."""
        return rows(partial(self.deliveries, id, status))

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

    async def _post(self, path: str) -> Answer:
        return await self._transport.send(Call(method="POST", path=path, repeatable=False))


def _path(id: UUID | str) -> str:
    return f"{WEBHOOKS}/{segment(id)}"

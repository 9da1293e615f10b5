"""Load while things break: each role does one thing over and over, and notes what it was told."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote
from uuid import UUID

from tests.support.agents import Agent, new_agent, sdk_manifest
from tests.support.app import AUTH
from tests.torture.clients import Answer, Clients, Request
from tests.torture.record import Anchor, Batch, Bulk, Enrolled, Hook, Record, Revoked, Suspect
from tests.torture.reports import Scene, as_stored, token_id

MOST_EVENTS = 20
MOST_BULK = 20
TOKEN_SECS = 600.0  # of the 900 that an agent token lives, for clients that wait and clocks that are set
FILTERS: tuple[list[str], ...] = ([], ["handshake.complete"], ["tct.revoked", "agent.registered"])


def keyed(key: str) -> dict[str, str]:
    return {**AUTH, "Idempotency-Key": key}


class Speaker:
    """An agent that reports for itself, and its agent token once it has one."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.token: str | None = None
        self._taken = 0.0

    def take(self, token: str) -> None:
        self.token, self._taken = token, _now()

    @property
    def expires_soon(self) -> bool:
        return _now() - self._taken > TOKEN_SECS


class Load:
    """The roles share a record, a scene and a way to ask; `over` tells them to finish what they are at."""

    def __init__(self, clients: Clients, record: Record, receivers: list[str]) -> None:
        self.clients = clients
        self.record = record
        self.over = asyncio.Event()
        self._receivers = receivers
        self.speakers: dict[str, Speaker] = {}  # by the worker that lets them speak
        self.peers: list[tuple[Suspect, Speaker]] = []  # of contained agents, and able to show what they hold
        self._scene = Scene(random.Random(f"{record.seed}/scene"), record.tokens)

    async def run(self, roles: "list[Role]") -> None:
        """All roles at once, until the load is over and each has had its last answer."""
        async with asyncio.TaskGroup() as group:
            for number, role in enumerate(roles):
                group.create_task(self._repeat(role, f"{role.act.__name__}-{number}"))

    async def _repeat(self, role: "Role", name: str) -> None:
        dice = random.Random(f"{self.record.seed}/{name}")
        number = 0
        while not self.over.is_set():
            number += 1
            await role.act(self, f"{name}-{number}", dice)
            try:
                await asyncio.wait_for(self.over.wait(), dice.uniform(0, 2 * role.pause_secs))
            except TimeoutError:
                continue

    async def report(self, name: str, dice: random.Random) -> None:
        """A batch, sent until it is known to be stored, and now and then once more."""
        events = [self._scene.event(f"{name}-{n}") for n in range(dice.randint(1, MOST_EVENTS))]
        worker, _, number = name.rpartition("-")
        stored = [as_stored(event, self.record.tokens) for event in events]
        batch = Batch(worker, int(number), stored, dice.random() < 0.2, _now())
        self.record.batches.append(batch)
        if batch.keyed:  # nothing but the key tells a second sending from another batch
            events = [{name: value for name, value in event.items() if name != "id"} for event in events]
        request = Request(
            "events",
            "POST",
            "/api/events",
            json.dumps(events).encode(),
            keyed(f"key-of-{name}") if batch.keyed else AUTH,
        )
        if dice.random() < 0.1:
            await self.clients.vanish(request, dice)
            batch.unsure += 1
            if dice.random() < 0.5:
                return
        for _ in range(dice.choice([1, 1, 1, 2])):
            self.note_batch(batch, await self.clients.insist(request, dice))
        await self._read_back(batch, dice)

    def note_batch(self, batch: Batch, response: Answer | None) -> None:
        if response is None:
            return
        batch.unsure += response.unsure
        if response.status != 200 or response.body["ingested"] != len(batch.events) or response.body["dropped"]:
            self.record.complain("events", "wrong", f"batch {batch.name}: {response}")
            return
        batch.told = batch.told or _now()
        if not response.replayed:
            batch.inserted.append(response.body["inserted"])

    async def _read_back(self, batch: Batch, dice: random.Random) -> None:
        """What is acknowledged can be read on any replica."""
        sessions = [event["session_id"] for event in batch.events if "session_id" in event]
        if batch.told is None or not sessions or dice.random() < 0.7:
            return
        request = Request("events", "GET", f"/api/events/history?limit=1000&sessionId={sessions[0]}")
        if (response := await self.clients.attempt(request, dice)) is None:
            return
        seen = {event["payload"].get("torture") for event in response.body["events"]}
        for event in batch.events:
            if event.get("session_id") == sessions[0] and event["id"] not in seen and len(seen) < 1000:
                self.record.complain("events", "lost", f"{event['id']} is not in the history of its session")

    async def enrol(self, name: str, dice: random.Random) -> None:
        """An agent enrols, perhaps twice, and perhaps it has to leave."""
        agent = new_agent()
        body = sdk_manifest(agent, name=name)
        for _ in range(dice.choice([1, 1, 2])):
            if not await self.register(agent, body, dice):
                return
        told = self.record.agents[agent.aid]
        if told.told and dice.random() < 0.3:
            await self._deregister(told, dice)

    async def register(self, agent: Agent, body: bytes, dice: random.Random, *, proof: str | None = None) -> bool:
        """Enrol and register, perhaps with proof that the agent has its key; False if there was no answer."""
        told = self.record.agents.setdefault(agent.aid, Enrolled(agent.aid))
        token = await self.clients.insist(Request("registrations", "POST", "/api/registry/enroll", body, {}), dice)
        if token is None or token.status != 200:
            self.record.complain("registrations", "wrong", f"{agent.aid} got no token: {token}")
            return False
        return await self._register(told, body, token.body["token"], dice, proof=proof)

    async def _register(
        self, agent: Enrolled, body: bytes, token: str, dice: random.Random, *, proof: str | None
    ) -> bool:
        headers = {"Authorization": f"Bearer {token}", **({"X-Aitp-Agent-Token": proof} if proof else {})}
        if dice.random() < 0.5:
            headers["Idempotency-Key"] = f"register-{token[-20:]}"
        request = Request("registrations", "POST", "/api/registry/agents", body, headers)
        vanished = dice.random() < 0.1
        if vanished:
            await self.clients.vanish(request, dice)
        response = None if vanished and dice.random() < 0.5 else await self.clients.insist(request, dice)
        if response is None:
            agent.unsure += 1
            return False
        # Without a key a second use of the token says that the first one went through.
        again = (vanished or response.unsure > 0) and response.code == "TOKEN_REPLAYED"
        if response.status != 201 and not again:
            self.record.complain("registrations", "wrong", f"{agent.aid}: {response}")
        agent.told = True
        agent.spent += 1
        return True

    async def _deregister(self, agent: Enrolled, dice: random.Random) -> None:
        agent.leaving = "asked"
        path = f"/api/registry/agents/{quote(agent.aid, safe='')}"
        response = await self.clients.insist(Request("deregistrations", "DELETE", path), dice)
        if response is not None and response.status == 200:
            agent.leaving = "told"
        elif response is not None:
            self.record.complain("deregistrations", "wrong", f"{agent.aid}: {response}")

    async def revoke(self, name: str, dice: random.Random) -> None:
        """A token is revoked, sometimes by two clients who disagree about the reason."""
        jti = self._scene.a_token() if dice.random() < 0.5 else token_id(dice)
        if dice.random() < 0.1:
            jti = str(UUID(jti, version=1))
        entry = self.record.revocations.setdefault(jti, Revoked(jti))
        reasons = [f"reason {name}", f"second thoughts {name}"][: dice.choice([1, 1, 2])]
        await asyncio.gather(*(self._revoke(entry, reason, dice) for reason in reasons))

    async def _revoke(self, entry: Revoked, reason: str, dice: random.Random) -> None:
        entry.asked.add(reason)
        response = await self._post_entries(reason, {"jti": entry.jti.upper(), "reason": reason}, dice)
        if response is not None and response.status == 201:
            entry.responses.add((response.body["revokedAt"], response.body["reason"]))
            entry.told_at = entry.told_at or time.time()
        elif response is not None:
            self.record.complain("revocations", "wrong", f"{entry.jti}: {response}")

    async def _post_entries(self, name: str, body: object, dice: random.Random) -> Answer | None:
        """Ask for revocations, some with an idempotency key; None where the client did not wait or gave up."""
        headers = keyed(name) if dice.random() < 0.3 else AUTH
        request = Request("revocations", "POST", "/api/revocation/entries", json.dumps(body).encode(), headers)
        if dice.random() < 0.1:
            await self.clients.vanish(request, dice)
            return None
        return await self.clients.insist(request, dice)

    async def revoke_many(self, name: str, dice: random.Random) -> None:
        """Tokens are revoked by one request, some of which have been revoked before."""
        bulk = Bulk(name, [token_id(dice) for _ in range(dice.randint(2, MOST_BULK))])
        self.record.bulks.append(bulk)
        known = [jti for jti, entry in self.record.revocations.items() if entry.responses][-3:]
        jtis = dice.sample([*bulk.fresh, *known], len(bulk.fresh) + len(known))
        entries = [self.record.revocations.setdefault(jti, Revoked(jti)) for jti in jtis]
        for entry in entries:
            entry.asked.add(name)
        response = await self._post_entries(name, {"jtis": jtis, "reason": name}, dice)
        if response is None:
            return
        said = response.body
        if response.status != 201 or [entry["jti"] for entry in said["entries"]] != jtis:
            self.record.complain("revocations", "wrong", f"{name}: {response}")
            return
        if said["revoked"] + said["alreadyRevoked"] != len(jtis) or said["revoked"] not in {0, len(bulk.fresh)}:
            self.record.complain("revocations", "wrong", f"{name} was counted {said['revoked']} of {len(bulk.fresh)}")
        bulk.told = True
        for entry, shown in zip(entries, said["entries"], strict=True):
            entry.responses.add((shown["revokedAt"], shown["reason"]))
            entry.told_at = entry.told_at or time.time()

    async def subscribe(self, name: str, dice: random.Random) -> None:
        """A webhook comes, may change, and mostly goes again."""
        hook = Hook(f"{dice.choice(self._receivers)}/{name}", dice.choice(FILTERS), dice.random() < 0.5)
        self.record.hooks[hook.url] = hook
        await self.create(hook, dice)
        if hook.born is None:
            return
        await self.pause(dice.uniform(0.5, 3))
        if dice.random() < 0.5:
            await self._patch(hook, dice)
        if dice.random() < 0.8:
            await self._remove(hook, dice)

    async def create(self, hook: Hook, dice: random.Random, secret: str | None = None) -> None:
        body = json.dumps({"url": hook.url, "events": hook.events, "secret": secret}).encode()
        headers = keyed(f"hook {hook.url}") if hook.keyed else AUTH
        response = await self.clients.insist(Request("webhooks", "POST", "/api/webhooks", body, headers), dice)
        if response is None or response.status != 201:
            self.record.complain("webhooks", "wrong", f"{hook.url}: {response}")
            return
        hook.asked = 1 if hook.keyed else response.unsure + 1
        hook.ids.add(response.body["id"])
        hook.born = _now()

    async def _patch(self, hook: Hook, dice: random.Random) -> None:
        hook.changing = _now()
        hook.events = ["handshake.failed"]
        request = Request("webhooks", "PATCH", _path(hook), json.dumps({"events": hook.events}).encode())
        response = await self.clients.insist(request, dice)
        if response is None or response.status != 200:
            self.record.complain("webhooks", "wrong", f"PATCH {hook.url}: {response}")
            return
        hook.patches += 1
        hook.unsure_patches += response.unsure

    async def _remove(self, hook: Hook, dice: random.Random) -> None:
        hook.changing = hook.changing or _now()
        hook.leaving = "asked"
        response = await self.clients.insist(Request("webhooks", "DELETE", _path(hook)), dice)
        if response is None:
            return
        if response.status == 200 or (response.status == 404 and response.unsure):
            hook.leaving = "told"
        else:
            self.record.complain("webhooks", "wrong", f"DELETE {hook.url}: {response}")

    async def anchor(self, name: str, dice: random.Random) -> None:
        """Two clients send the same keyed creation at once; it happens once and both hear the same."""
        anchor = Anchor(f"https://issuer.example/{name}")
        self.record.anchors[anchor.issuer] = anchor
        body = json.dumps({"issuerUrl": anchor.issuer}).encode()
        request = Request("keyed posts", "POST", "/api/trust-anchors", body, keyed(f"anchor {name}"))
        for response in await asyncio.gather(*(self.clients.insist(request, dice) for _ in range(2))):
            if response is not None and response.status == 201:
                anchor.told = True
                anchor.ids.add(response.body["id"])
            elif response is not None:
                self.record.complain("keyed posts", "wrong", f"{anchor.issuer}: {response}")

    async def pause(self, secs: float) -> None:
        try:
            await asyncio.wait_for(self.over.wait(), secs)
        except TimeoutError:
            return


class Role:
    """What is done, and how long one waits between two times on average."""

    def __init__(self, act: "Callable[[Load, str, random.Random], Awaitable[None]]", pause_secs: float) -> None:
        self.act = act
        self.pause_secs = pause_secs


def _path(hook: Hook) -> str:
    return f"/api/webhooks/{next(iter(hook.ids))}"


def _now() -> float:
    return time.monotonic()

"""Load on what opens the door: API keys and their successors, and sessions of browsers that stand on a key."""

import asyncio
import json
import random
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from tests.torture.clients import Answer, Clients, Headers, Request
from tests.torture.clocked import SKEW_SECS
from tests.torture.load import Load, keyed
from tests.torture.record import Family, Key, Record, Session, Visitor

COOKIE = "acp-dev"
# A key that a replica has confirmed passes for a minute on it while the log cannot be followed (contract, section 18).
TRUST_SECS = 60.0
# Beyond its limit: the answer may have been under way before, and a frozen client looks late.
SLACK_SECS = 3.0
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
OVERLAPS = (0, 0, 1, 30)
Door = Key | Session


def now() -> float:
    return asyncio.get_running_loop().time()


def holding(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def keep_a_key(load: Load, name: str, dice: random.Random) -> None:
    """A key is made, used, perhaps replaced, and mostly revoked."""
    family = await make_key(load, name, dice, dice.choice(["reporter", "auditor", "operator"]))
    if family is None:
        return
    await use(load, family, dice)
    if dice.random() < 0.5:
        await _rotate(load, family, dice)
        await use(load, family, dice)
    await load.pause(dice.uniform(0, 1))
    if dice.random() < 0.7:
        await revoke(load, family, dice)


async def make_key(load: Load, name: str, dice: random.Random, role: str) -> Family | None:
    """None if there never was an answer."""
    family = load.record.families[name] = Family(name)
    body = json.dumps({"name": name, "role": role}).encode()
    response = await load.clients.insist(Request("api keys", "POST", "/api/keys", body, keyed(f"make {name}")), dice)
    if response is None or response.status != 201:
        load.record.complain("api keys", "wrong", f"{name} was not made: {response}")
        return None
    family.told = True
    family.keys.append(Key(response.body["id"], response.body.get("key")))
    return family


async def use(load: Load, family: Family, dice: random.Random) -> None:
    """A key that was just made works on any replica."""
    key = family.keys[-1]
    if key.secret is None or (response := await _whoami(load.clients, key, dice)) is None:
        return
    if response.status != 200 or response.body["actor"] != f"key:{family.keys[0].id}":
        load.record.complain("api keys", "lost", f"{key.id} was made and is refused: {response}")


async def _rotate(load: Load, family: Family, dice: random.Random) -> None:
    old, overlap = family.keys[-1], dice.choice(OVERLAPS)
    request = Request(
        "api keys",
        "POST",
        f"/api/keys/{old.id}/rotate",
        json.dumps({"overlapSecs": overlap}).encode(),
        keyed(f"rotate {old.id}"),
    )
    response = await load.clients.insist(request, dice)
    if response is None or response.status != 201:
        load.record.complain("api keys", "wrong", f"{old.id} was not rotated: {response}")
        return
    old.replaced = True
    old.refused_from = now() + overlap + 2 * SKEW_SECS  # one replica may be ahead, and another behind
    family.keys.append(Key(response.body["id"], response.body.get("key")))


async def revoke(load: Load, family: Family, dice: random.Random) -> None:
    """The newest key, or all of them; whoever has revoked one refuses it from then on."""
    whole = dice.random() < 0.5
    ending = family.keys if whole else family.keys[-1:]
    for key in ending:
        key.revoked = "asked"
    path = f"/api/keys/{family.keys[-1].id}?reason=torture&family={json.dumps(whole)}"
    response = await load.clients.insist(Request("api keys", "DELETE", path), dice)
    if response is None or response.status != 200:
        load.record.complain("api keys", "wrong", f"{family.name} was not revoked: {response}")
        return
    for key in ending:
        key.revoked, key.refused_from = "told", now()
    for key in ending:
        if key.id in response.body["keys"] and key.secret is not None:
            again = await _whoami(load.clients, key, dice, response.port)
            if again is not None and again.status != 401:
                load.record.complain("api keys", "wrong", f"{key.id} is accepted by whom it was revoked by: {again}")


async def _whoami(clients: Clients, key: Key, dice: random.Random, port: int | None = None) -> Answer | None:
    assert key.secret is not None
    return await clients.attempt(Request("api keys", "GET", "/api/whoami", headers=holding(key.secret)), dice, port)


async def browse(load: Load, name: str, dice: random.Random) -> None:
    """Somebody signs in with a key, looks around, makes a key with a form, and leaves or loses the key."""
    family = await make_key(load, name, dice, "admin")
    if family is None or (session := await _sign_in(load, family, dice)) is None:
        return
    await _look(load, session, dice)
    if dice.random() < 0.5:
        await _make_by_form(load, session, f"{name}-form", dice)
    await load.pause(dice.uniform(0, 1))
    if dice.random() < 0.5:
        await _sign_out(load, session, dice)
    elif dice.random() < 0.7:
        await revoke(load, family, dice)
        session.refused_from = family.keys[-1].refused_from


async def _sign_in(load: Load, family: Family, dice: random.Random) -> Session | None:
    secret = family.keys[-1].secret
    if secret is None:
        return None
    actor = f"key:{family.keys[0].id}"
    visitor = load.record.visitors.setdefault(actor, Visitor())
    response = await load.clients.insist(_form("/console/login", {"key": secret}, {}), dice)
    cookie = None if response is None else _cookie(response)
    if response is None or response.status != 303 or not cookie:
        load.record.complain("console sessions", "wrong", f"{family.name} was not signed in: {response}")
        return None
    visitor.logins += 1
    visitor.unsure += response.unsure
    session = Session(cookie, actor, family.keys[-1])
    load.record.sessions.append(session)
    return session


async def _look(load: Load, session: Session, dice: random.Random) -> None:
    response = await load.clients.attempt(_page("/console/me", session), dice)
    if response is not None and response.status != 200:
        load.record.complain("console sessions", "lost", f"{session.actor} has signed in: {response.status}")


async def _make_by_form(load: Load, session: Session, name: str, dice: random.Random) -> None:
    """The same form, sent until there is an answer, makes one key."""
    family = load.record.families[name] = Family(name, actor=session.actor)
    fields = {"once": str(UUID(int=dice.getrandbits(128), version=4)), "name": name, "role": "auditor", "days": "30"}
    response = await load.clients.insist(_form("/console/keys", {**fields, "rate": ""}, _cookie_of(session)), dice)
    if response is None or response.status != 200:
        load.record.complain("console sessions", "wrong", f"the form made no key {name}: {response}")
        return
    family.told = True


async def _sign_out(load: Load, session: Session, dice: random.Random) -> None:
    session.signed_out = "asked"
    response = await load.clients.insist(_form("/console/logout", {"-": ""}, _cookie_of(session)), dice)
    if response is None or response.status != 303:
        load.record.complain("console sessions", "wrong", f"{session.actor} was not signed out: {response}")
        return
    session.signed_out, session.refused_from = "told", now()
    # Retried, it may have been another replica that ended the session, which this one then does not know yet.
    if not response.unsure:
        again = await load.clients.attempt(_page("/console/me", session), dice, response.port)
        if again is not None and again.status == 200:
            load.record.complain("console sessions", "wrong", f"{session.actor} is signed out and let in")


class Doors:
    """Tries keys and sessions that have ended, now and then, while things break."""

    def __init__(self, clients: Clients, record: Record) -> None:
        self._clients = clients
        self._record = record

    async def watch(self) -> None:
        dice = random.Random(f"{self._record.seed}/doors")
        while True:
            await asyncio.sleep(dice.uniform(0.1, 0.5))
            shut = [door for door in (*key_doors(self._record), *session_doors(self._record)) if _late(door) > 0]
            if shut:
                await self._try(dice.choice(shut[-50:]), dice)

    async def _try(self, door: Door, dice: random.Random) -> None:
        late = _late(door)
        response = await self._clients.attempt(trial(door), dice)
        if response is not None and response.status == 200:
            what = f"{name_of(door)} was accepted {late:.0f} s after it may be at the latest"
            self._record.complain(kind_of(door), "wrong", what)


def key_doors(record: Record) -> list[Door]:
    """The keys whose secret is known, in the order of their making."""
    return [key for family in record.families.values() for key in family.keys if key.secret is not None]


def session_doors(record: Record) -> list[Door]:
    return list(record.sessions)


def kind_of(door: Door) -> str:
    return "api keys" if isinstance(door, Key) else "console sessions"


def name_of(door: Door) -> str:
    return door.id if isinstance(door, Key) else f"a session of {door.actor}"


def _late(door: Door) -> float:
    """Seconds since the last moment at which any replica may have let it in; negative before."""
    return -1.0 if door.refused_from is None else now() - door.refused_from - TRUST_SECS - SLACK_SECS


def trial(one: Door) -> Request:
    """What only a valid key or session gets 200 for."""
    if isinstance(one, Session):
        return _page("/console/me", one)
    return Request("api keys", "GET", "/api/whoami", headers=holding(one.secret or ""))


def _form(path: str, fields: dict[str, str], headers: Headers) -> Request:
    return Request("console sessions", "POST", path, urlencode(fields).encode(), {**FORM, **headers}, page=True)


def _page(path: str, session: Session) -> Request:
    return Request("console sessions", "GET", path, headers=_cookie_of(session), page=True)


def _cookie_of(session: Session) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={session.cookie}"}


def _cookie(response: Any) -> str | None:
    name, _, rest = response.headers.get("set-cookie", "").partition("=")
    return rest.partition(";")[0] if name == COOKIE else None

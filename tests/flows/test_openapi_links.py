"""Along the links of the OpenAPI document: they lead somewhere, and what is answered there is in the document."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import pytest
from hypothesis.errors import Flaky
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.core.transforms import UNRESOLVABLE
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.generation.stateful.state_machine import ExtractedParam, StepOutput
from schemathesis.specs.openapi.stateful import OperationTransitions, collect_transitions
from schemathesis.specs.openapi.stateful.links import OpenApiLink

from tests.support.described import CASES, OPERATIONS, SCHEMA, SEED, checks_of, code_of, deployment, sending, tries
from tests.support.feeds import AGENTS, FEEDS, TOKEN, Surroundings
from tests.support.process import Process
from tests.support.provider import Provider
from tests.support.receiver import receiver

pytestmark = pytest.mark.anyio

WAYS, STEPS = 5, 40  # in a round, and in one of them
PATIENCE_SECS = 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with deployment(tmp_path) as process:
        yield process


@pytest.fixture
async def around() -> AsyncIterator[Surroundings]:
    async with receiver() as hook, Provider() as provider:
        provider.say("/keys", {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}]})
        yield Surroundings(hook.url, provider.url)


async def test_every_answer_along_the_links_is_in_the_document(server: Process, around: Surroundings) -> None:
    answered: Counter[str] = Counter()
    wrong: list[str] = []

    class Journey(SCHEMA.as_state_machine()):  # type: ignore[misc]
        """Goes where links lead, with real bodies where a made-up one would be refused."""

        def before_call(self, case: Case[Any]) -> None:
            if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
                around.feed(case, crc32(repr(case.body).encode()))

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return sending(server, around.credentials(case))

        def call(self, case: Case[Any], **how: Any) -> Response:
            try:
                return case.call(**how)
            except Exception as lost:  # what is said below about outcomes must not hide it
                wrong.append(f"{case.operation.label}: {lost!r}")
                raise

        def validate_response(self, response: Response, case: Case[Any], **more: Any) -> None:
            answered[case.operation.label] += 1
            around.learn(case, response)
            try:
                case.validate_response(response, checks=checks_of(case, response), recorder=self.recorder)
            except FailureGroup as found:
                wrong.append(str(found))

    seeds = count(SEED * 10_000)
    while answered.total() < CASES // 2 and not wrong:
        journey = hypothesis.seed(next(seeds))(Journey)
        with suppress(Flaky):  # the server remembers, so that the same steps may have another outcome later
            await asyncio.to_thread(journey.run, settings=tries(WAYS, stateful_step_count=STEPS))
    print(f"{answered.total()} cases along the links, of {len(answered)} operations")
    assert wrong == [], wrong[0]


async def test_every_link_leads_somewhere(server: Process, around: Surroundings) -> None:
    walk = Walk(server, around)
    await asyncio.to_thread(walk.everywhere)
    assert sorted(walk.links - walk.followed) == []


class Walk:
    """Creates two of everything, then follows all links of all responses; no request is sent twice."""

    def __init__(self, server: Process, around: Surroundings) -> None:
        self.server = server
        self.around = around
        self.ways = collect_transitions(list(OPERATIONS.values())).operations
        self.links = {link.full_name for ways in self.ways.values() for link in ways.outgoing}
        self.followed: set[str] = set()
        self.asked: set[str] = set()
        self.ahead: deque[Case[Any]] = deque()
        self.deletions: deque[Case[Any]] = deque()

    def everywhere(self) -> None:
        for label in FEEDS:
            if "{" not in label and label != TOKEN:  # the challenge leads there
                self.visit(OPERATIONS[label].Case(body={}), 0)
                self.visit(OPERATIONS[label].Case(body={}), 1)
        contain = OPERATIONS["POST /api/registry/agents/{aid}/contain"]
        for reason in ("leaked", "leaked again"):
            self.visit(contain.Case(path_parameters={"aid": AGENTS[0].aid}, body={"reason": reason}))
        self.visit(OPERATIONS["GET /api/events/history"].Case(query={"order": "asc"}))
        for label, operation in OPERATIONS.items():
            if label.startswith("GET ") and "{" not in label:
                self.visit(operation.Case())
        while self.ahead or self.deletions:
            self.visit((self.ahead or self.deletions).popleft())

    def visit(self, case: Case[Any], n: int = 0) -> None:
        """Ask, unless it was asked before, and note where the response leads."""
        self.around.feed(case, n)
        question = repr((case.operation.label, case.path_parameters, case.query, case.headers, case.body))
        if question in self.asked:
            return
        self.asked.add(question)
        response = self.call(case)
        assert response.status_code < 400, (question, response.text)
        case.validate_response(response, checks=checks_of(case, response))
        self.around.learn(case, response)
        for link in self.ways.get(case.operation.label, OperationTransitions()).outgoing:
            if link.status_code == str(response.status_code):
                self.follow(link, StepOutput(response, case))

    def call(self, case: Case[Any]) -> Response:
        """Return the response; a key set may take a moment."""
        deadline = time.monotonic() + PATIENCE_SECS
        while True:
            response = case.call(**sending(self.server, self.around.credentials(case)))
            if code_of(response) != "JWKS_NOT_CACHED" or time.monotonic() > deadline:
                return response
            time.sleep(0.05)

    def follow(self, link: OpenApiLink, shown: StepOutput) -> None:
        """Go on by this link if the response holds all that it takes; what deletes waits for the rest."""
        found = link.extract(shown)
        taken: dict[str, Any] = {
            place: {name: value(one) for name, one in held.items()} for place, held in found.parameters.items()
        }
        body = {} if found.request_body is None else value(found.request_body)
        if None in (body, *(one for held in taken.values() for one in held.values())):
            return
        self.followed.add(link.full_name)
        if link.target.body:
            taken["body"] = body
        later = self.deletions if link.target.method == "delete" else self.ahead
        later.append(link.target.Case(**taken))


def value(found: ExtractedParam) -> Any:
    """What an expression of a link stands for; None where the response holds nothing."""
    held = found.value.ok() if isinstance(found.value, Ok) else UNRESOLVABLE
    missing = held is UNRESOLVABLE or (isinstance(held, dict) and UNRESOLVABLE in held.values())
    return None if missing else held

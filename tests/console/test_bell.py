"""The bell: which topics ring, and how its streams begin and end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from uuid import UUID, uuid4

import msgspec
import pytest

from aitp_cp.console.bell import Bell
from aitp_cp.console.topics import Topic, of_action, of_event
from aitp_cp.errors import SseCapacity
from aitp_cp.web.sse import Sink
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio


class Browser:
    """Reads the frames of one stream, without the network."""

    def __init__(self, bell: Bell, is_valid: Callable[[], bool] = lambda: True, session: UUID | None = None) -> None:
        self.frames: list[bytes] = []
        self._bell, self._is_valid, self._session = bell, is_valid, session

    async def listen(self) -> None:
        async def send(message: object) -> None:
            assert isinstance(message, dict)
            self.frames.append(message["body"])

        with self._bell.opened(self._is_valid, self._session) as produce:
            async with asyncio.timeout(None) as timeout:
                await produce(Sink(send, timeout))

    async def rings(self, *wanted: Topic) -> None:
        """Wait until each of these topics has rung."""
        async with asyncio.timeout(5):
            while not set(wanted) <= self.topics():
                await asyncio.sleep(0.02)

    def topics(self) -> set[str]:
        data = [frame.partition(b"data: ")[2] for frame in self.frames if frame.startswith(b"event: bell")]
        return {topic for text in data for topic in msgspec.json.decode(text)["topics"]}


@pytest.fixture
async def browser(app: App) -> AsyncIterator[Browser]:
    browser = Browser(app.rt.get(Bell))
    task = asyncio.create_task(browser.listen())
    await asyncio.sleep(0)
    yield browser
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_events_and_audited_changes_ring_for_what_they_concern(app: App, browser: Browser) -> None:
    await browser.rings()
    await app.http.post("/api/events", json=[{"type": "handshake.complete", "session_id": "s"}, {"type": "odd"}])
    await browser.rings(Topic.EVENTS, Topic.SESSIONS, Topic.TOKENS)
    assert Topic.TRUSTSTORE not in browser.topics()
    response = await app.http.post("/api/trust-anchors", json={"issuerUrl": "https://issuer.example"})
    assert response.status_code == 201
    await browser.rings(Topic.AUDIT, Topic.TRUSTSTORE)


async def test_frames_hold_positions_and_counts_alone(app: App, browser: Browser) -> None:
    await app.http.post("/api/events", json=[{"type": "secret-type", "run_id": "secret-run"}] * 3)
    await browser.rings(Topic.EVENTS)
    text = b"".join(browser.frames)
    assert b"secret" not in text
    frames = [frame for frame in browser.frames if frame.startswith(b"event: bell")]
    for frame in frames:
        assert set(msgspec.json.decode(frame.partition(b"data: ")[2])) == {"seq", "topics", "health"}


async def test_a_burst_is_at_most_four_frames_a_second(app: App, browser: Browser) -> None:
    bell = app.rt.get(Bell)
    before = len(browser.frames)
    for _ in range(50):
        bell.on_audited("webhook.create")
        await asyncio.sleep(0.01)
    assert len(browser.frames) - before <= 4


async def test_it_ends_soon_after_its_session(app: App) -> None:
    valid = True
    browser = Browser(app.rt.get(Bell), lambda: valid)
    task = asyncio.create_task(browser.listen())
    await asyncio.sleep(0.05)
    assert not task.done()
    valid = False
    await asyncio.wait_for(task, 2)
    assert browser.frames[-1].startswith(b"retry: ")


async def test_it_has_a_limit_of_its_own(database_url: str) -> None:
    async with running_app(database_url, API_KEYS="", CP_BASE_URL="http://cp.test", CONSOLE_STREAMS="1") as app:
        bell = app.rt.get(Bell)
        with bell.opened(lambda: True):
            with pytest.raises(SseCapacity), bell.opened(lambda: True):
                pass
            response = await app.http.get("/console/live")
            assert (response.status_code, "SSE_CAPACITY" in response.text) == (503, True)
            assert app.rt.metrics.registry.get_sample_value("aitp_control_plane_console_streams_open") == 1
        assert app.rt.metrics.registry.get_sample_value("aitp_control_plane_console_streams_open") == 0


def test_a_topic_is_that_of_the_longest_beginning() -> None:
    contained = (Topic.AGENTS, Topic.CONTAINMENTS, Topic.TOKENS, Topic.REVOCATIONS)
    assert of_event("agent.contained") == (Topic.EVENTS, *contained)
    assert of_event("agent.anything") == (Topic.EVENTS, Topic.AGENTS)
    assert of_event("anything") == (Topic.EVENTS,)
    assert of_action("webhook.circuit-breaker.reset") == (Topic.AUDIT, Topic.WEBHOOKS)
    assert of_action("agent-notes.update") == (Topic.AUDIT, Topic.AGENTS)


async def test_a_session_holds_two_streams_and_the_oldest_gives_way(app: App) -> None:
    bell, session = app.rt.get(Bell), uuid4()
    browsers = [Browser(bell, session=session) for _ in range(3)]
    others = [Browser(bell, session=uuid4()), Browser(bell), Browser(bell), Browser(bell)]
    tasks = [asyncio.create_task(browser.listen()) for browser in [*others, *browsers]]
    oldest = tasks[len(others)]
    await asyncio.wait_for(oldest, 10)
    assert browsers[0].frames[-1].startswith(b"retry: ")
    assert [task.done() for task in tasks] == [task is oldest for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert app.rt.metrics.registry.get_sample_value("aitp_control_plane_console_streams_open") == 0

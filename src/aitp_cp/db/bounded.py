"""Give up work that takes too long, without waiting until it has cleaned up.

A connection whose server is silent takes seconds to be given back: the driver first asks the server to cancel.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

_given_up: set[asyncio.Future[Any]] = set()  # the loop itself would not keep them


async def within(secs: float, work: Awaitable[T]) -> T:
    """Return the result of `work`; raises `TimeoutError` once it has taken `secs`."""

    async def no() -> bool:
        return False

    return await while_true(no, secs, work)


async def while_true(goes_on: Callable[[], Awaitable[bool]], every_secs: float, work: Awaitable[T]) -> T:
    """Return the result of `work`, as long as `goes_on` is true every `every_secs`; raises `TimeoutError`."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=every_secs))[0]:
            if not await goes_on() and not task.done():
                raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            _given_up.add(task)
            task.add_done_callback(_forget)
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    _given_up.discard(task)
    if not task.cancelled():
        task.exception()  # taken, or it would be reported as lost

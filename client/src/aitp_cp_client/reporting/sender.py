"""One attempt to send a batch, and what follows from its outcome."""

import logging
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from aitp_cp_client.errors import ANSWER_INVALID, ControlPlaneError
from aitp_cp_client.events import Ingested
from aitp_cp_client.options import Retries, Timeouts, base_url, proxy_of_environment
from aitp_cp_client.reporting.identity import EVENTS, Identity, prover
from aitp_cp_client.reporting.inbox import Batch
from aitp_cp_client.reporting.model import Limits, Tally
from aitp_cp_client.transport import Call, Transport

log = logging.getLogger("aitp_cp_client.reporter")

UNFIT = frozenset({400, 413, 422})  # what is wrong is in the batch; anything else is wrong around it, and may pass
LONGEST_RETRY_AFTER_SECS = 3600.0
LONGEST_JITTER_SECS = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done`: the batch is settled. `split`: try a smaller one. Else try again after `wait_secs`, `ordered` or not."""

    done: bool = False
    split: bool = False
    wait_secs: float = 0.0
    ordered: bool = False  # by the control plane, so that nothing may shorten it


class Sender:
    """Sends batches over one connection pool; belongs to one event loop."""

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        limits: Limits,
        tally: Tally,
        pinned: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        base = base_url(url)
        self._transport = Transport(
            base,
            None,
            timeouts=Timeouts(answer_secs=limits.answer_secs),
            retries=Retries(times=0),
            proxy=proxy_of_environment(base),
            tls=tls,
        )
        self._prover = prover(identity, self._transport, pinned)
        self._limits = limits
        self._tally = tally
        self._failures = 0  # in a row
        self._proved_again = False  # at once, since the last success: only one such attempt may go without a pause

    async def send(self, batch: Batch) -> Outcome:
        """Try once; failures are outcomes."""
        body = batch.body
        try:
            headers = await self._prover.headers(body)
        except ControlPlaneError as error:
            return self._again(f"{error.code}: {error.message}", error.retry_after)
        except Exception as error:  # of the SDK: it must not end the reporting
            return self._again(f"{type(error).__name__} while proving the agent's identity", None)
        try:
            ingested = await self._post(body, headers)
        except ControlPlaneError as error:
            return self._failed(batch, error)
        if self._failures:
            log.info("reports_resumed after %d failures", self._failures)
        self._failures, self._proved_again = 0, False
        self._tally.add(sent=ingested.ingested, refused=ingested.dropped)
        if ingested.errors:
            problem = ingested.errors[0]
            self._tally.fail(f"the control plane refused {problem.field}: {problem.reason}")
            log.warning("reports_refused count=%d field=%s", len(ingested.errors), problem.field)
        return Outcome(done=True)

    async def close(self) -> None:
        await self._transport.close()

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> Ingested:
        call = Call(method="POST", path=EVENTS, headers=headers, body=body, gated=False)
        return (await self._transport.send(call)).read(Ingested)

    def _failed(self, batch: Batch, error: ControlPlaneError) -> Outcome:
        if error.status == 413 or (error.status in UNFIT and error.code != ANSWER_INVALID):
            return self._unfit(batch, error)
        if self._prover.refused(error) and not self._proved_again:
            self._proved_again = True
            self._tally.add(retries=1)
            return Outcome()
        return self._again(f"{error.code}: {error.message}", error.retry_after)

    def _unfit(self, batch: Batch, error: ControlPlaneError) -> Outcome:
        """Halve the batch until the event that does not fit is alone; then give that one up."""
        self._tally.fail(f"{error.code}: {error.message}")
        if len(batch.items) > 1:
            return Outcome(split=True)
        self._tally.add(refused=1)
        log.warning("report_refused code=%s", error.code)
        return Outcome(done=True)

    def _again(self, reason: str, retry_after: float | None) -> Outcome:
        doubled = self._limits.first_wait_secs * 2.0 ** min(self._failures, 20)
        wait = min(doubled, self._limits.longest_wait_secs) * random.uniform(0.5, 1)  # noqa: S311 - spreads agents
        if retry_after is not None:
            ordered = min(retry_after, LONGEST_RETRY_AFTER_SECS)
            wait = max(wait, ordered + random.uniform(0, min(ordered / 10, LONGEST_JITTER_SECS)))  # noqa: S311
        if not self._failures:
            log.warning("reports_delayed reason=%s", reason)
        self._failures += 1
        self._tally.add(retries=1)
        self._tally.fail(reason)
        return Outcome(wait_secs=wait, ordered=retry_after is not None)

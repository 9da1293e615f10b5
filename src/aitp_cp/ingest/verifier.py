"""Judge the tokens of batches before they are written (contract, section 19).

    batch ──> cache ──> a thread, a few tokens at a time ──> evidence on each report, `verdict` beside each digest

Nothing here touches the database. What waits is bounded by the backlog of bodies, of which the tokens are a part.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from aitp_cp.protocol import tokens, verdicts
from aitp_cp.protocol.reports import Batch
from aitp_cp.protocol.tokens import Redacted
from aitp_cp.protocol.verdicts import Checked, Evidence, Verdict
from aitp_cp.telemetry.metrics import Metrics

CACHE_BYTES = 16 * 1024 * 1024  # about 8,000 tokens
CALLER_BYTES = CACHE_BYTES // 2
CHUNK = 50  # tokens that are judged in one go: 7 ms, after which another batch has its turn
_OVERHEAD = 1024  # bytes of a short token's claims in memory


class Verifier:
    """One thread per process: judging holds the interpreter for most of the time."""

    def __init__(self, mode: str, metrics: Metrics) -> None:
        self._mode = mode
        self._count = {verdict: metrics.token_verdicts.labels(verdict.value) for verdict in Verdict}
        self._known = Known()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verdicts")

    async def judge(self, batch: Batch, caller: str) -> Batch:
        """Return the batch with evidence on its reports; redacted tokens in payloads get their verdict."""
        if self._mode == "off":
            return batch
        tokens = {token["sha256"]: token for report in batch.reports for token in report.tokens}
        strict = self._mode == "strict"
        own = any(report.signer is not None for report in batch.reports)  # of one reporter, like all of them
        if not tokens and not strict and not own:
            return batch
        checked = await self._checked(tokens.values(), caller)
        for report in batch.reports:
            for token in report.tokens:
                token["verdict"] = checked[token["sha256"]].verdict.value
        reports = [
            msgspec.structs.replace(
                report,
                evidence=Evidence({token.token: checked[token["sha256"]] for token in report.tokens}, strict, own),
            )
            if report.tokens or strict or own
            else report
            for report in batch.reports
        ]
        return msgspec.structs.replace(batch, reports=reports)

    def stop(self) -> None:
        self._thread.shutdown(wait=False)

    async def _checked(self, tokens: Iterable[Redacted], caller: str) -> dict[str, Checked]:
        """Return the verdict on each token by its digest."""
        checked: dict[str, Checked] = {}
        unknown: list[Redacted] = []
        for token in tokens:
            known = self._known.get(token["sha256"])
            if known is None:
                unknown.append(token)
            else:
                checked[token["sha256"]] = known
        loop = asyncio.get_running_loop()
        for start in range(0, len(unknown), CHUNK):
            chunk = unknown[start : start + CHUNK]
            for token, result in zip(chunk, await loop.run_in_executor(self._thread, check_all, chunk), strict=True):
                checked[token["sha256"]] = result
                self._known.add(token["sha256"], result, caller, len(token.token))
        for result in checked.values():
            self._count[result.verdict].inc()
        return checked


def check_all(tokens: Sequence[Redacted]) -> list[Checked]:
    """Judge tokens; what their claims hold that looks like a token is redacted like everything else."""
    return [_redacted(verdicts.check(token.token)) for token in tokens]


def _redacted(checked: Checked) -> Checked:
    if not tokens.may_hold_token(msgspec.json.encode(checked.claims)):
        return checked
    return msgspec.structs.replace(checked, claims=tokens.redact(dict(checked.claims)))


class _Entry(msgspec.Struct, frozen=True):
    checked: Checked
    caller: str
    size: int


class Known:
    """Verdicts by the digest of the token, bounded in bytes, also for each caller that brought them; the oldest go."""

    def __init__(self, limit: int = CACHE_BYTES, per_caller: int = CALLER_BYTES) -> None:
        self.bytes = 0
        self._limit = limit
        self._per_caller = per_caller
        self._entries: dict[str, _Entry] = {}
        self._digests: dict[str, deque[str]] = {}
        self._sizes: dict[str, int] = {}

    def get(self, digest: str) -> Checked | None:
        entry = self._entries.get(digest)
        return None if entry is None else entry.checked

    def add(self, digest: str, checked: Checked, caller: str, length: int) -> None:
        """Keep a verdict on a token of `length` characters, which `caller` has brought."""
        size = 2 * length + _OVERHEAD
        if digest in self._entries or size > self._per_caller:
            return
        self._entries[digest] = _Entry(checked, caller, size)
        self._digests.setdefault(caller, deque()).append(digest)
        self._sizes[caller] = self._sizes.get(caller, 0) + size
        self.bytes += size
        while self._sizes[caller] > self._per_caller:
            self._drop(self._digests[caller][0])
        while self.bytes > self._limit:
            self._drop(next(iter(self._entries)))

    def _drop(self, digest: str) -> None:
        """The oldest of all is the oldest of its caller."""
        entry = self._entries.pop(digest)
        self._digests[entry.caller].popleft()
        self._sizes[entry.caller] -= entry.size
        self.bytes -= entry.size
        if not self._digests[entry.caller]:
            del self._digests[entry.caller], self._sizes[entry.caller]

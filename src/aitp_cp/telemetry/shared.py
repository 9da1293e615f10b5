"""Metrics of processes that share a port, in shared memory: a full or missing disk does not matter.

The parent reserves a segment for each process before it forks. Each process writes its own segment and reads all. A
segment outlives its process, so the counts of a process that died stay in the sums.
"""

import json
import mmap
import struct
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import multiprocess, values
from prometheus_client.metrics_core import Metric

# Per segment; pages are allocated when written. A process has about 0.5 MB of series with every route in use.
LASTING_BYTES = 16 * 1024 * 1024
LIVE_BYTES = 1024 * 1024
LIVE = "live"
MAX_SERIES = 100_000

_USED = struct.Struct("q")
_LENGTH = struct.Struct("q")
_VALUE = struct.Struct("dd")

log = structlog.get_logger("aitp_cp.metrics")


class _Segment:
    """The series of a process: the number of bytes in use, then for each series key length, key, value, timestamp."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._used = max(_USED.unpack_from(memory)[0], _USED.size)
        self._positions = {key: position for key, _, _, position in _read(memory)}

    def value(self, key: str) -> float | None:
        """Return the value of this key, and add a new key; None if the segment has no space for it."""
        if key not in self._positions and not self._add(key):
            return None
        return float(_VALUE.unpack_from(self._memory, self._positions[key])[0])

    def write(self, key: str, value: float, timestamp: float) -> None:
        position = self._positions[key]
        # One assignment, not `pack_into`: that writes zeros first, and another process may read them.
        self._memory[position : position + _VALUE.size] = _VALUE.pack(value, timestamp)

    def _add(self, key: str) -> bool:
        encoded = key.encode()
        encoded += b" " * (-len(encoded) % 8)  # so that a value lies within one cache line
        entry = _LENGTH.pack(len(encoded)) + encoded + _VALUE.pack(0.0, 0.0)
        end = self._used + len(entry)
        if end > len(self._memory):
            return False
        self._memory[self._used : end] = entry
        self._positions[key] = end - _VALUE.size
        self._used = end
        self._memory[: _USED.size] = _USED.pack(end)  # last: other processes read up to here
        return True


def _read(memory: mmap.mmap) -> Iterator[tuple[str, float, float, int]]:
    """Yield each key with its value, timestamp and position."""
    used, position = _USED.unpack_from(memory)[0], _USED.size
    while position < used:
        begin = position + _LENGTH.size
        position = begin + _LENGTH.unpack_from(memory, position)[0]
        yield (memory[begin:position].rstrip().decode(), *_VALUE.unpack_from(memory, position), position)
        position += _VALUE.size


class _Segments:
    """The segments of all processes, and those of this one."""

    def __init__(self, count: int) -> None:
        self.lasting = [mmap.mmap(-1, LASTING_BYTES) for _ in range(count)]
        self.live = [mmap.mmap(-1, LIVE_BYTES) for _ in range(count)]
        self.mine: dict[bool, _Segment] = {}
        self.lock = threading.Lock()
        self.full = False


class _State:
    segments: _Segments | None = None


_state = _State()


def prepare(count: int) -> None:
    """Reserve memory for `count` processes; called by their parent."""
    _state.segments = _Segments(count)


def take(number: int) -> None:
    """Use the segment of this number, and continue from the counts of its previous process."""
    segments = _state.segments
    assert segments is not None
    segments.mine = {False: _Segment(segments.lasting[number]), True: _Segment(segments.live[number])}


def forget(number: int) -> None:
    """Clear the live gauges of a process that has ended; called by the parent."""
    if _state.segments is not None:
        _state.segments.live[number][: _USED.size] = bytes(_USED.size)


def choose_values() -> None:
    """Select where new metrics keep their values, whatever PROMETHEUS_MULTIPROC_DIR says."""
    values.ValueClass = values.MutexValue if _state.segments is None else _SharedValue


class _SharedValue:
    """A value of this process, with the interface of the library."""

    _multiprocess = True

    def __init__(self, kind: str, *named: Any, multiprocess_mode: str = "", **_: Any) -> None:
        """`named`: metric name, value name, label names, label values, help text."""
        assert _state.segments is not None
        self._segments = _state.segments
        segment = self._segments.mine[multiprocess_mode.startswith(LIVE)]
        self._segment: _Segment | None = segment
        metric_name, name, label_names, label_values, about = named
        labels = sorted(zip(label_names, label_values, strict=True))
        self._key = json.dumps([kind, multiprocess_mode, metric_name, name, labels, about])
        with self._segments.lock:
            value = segment.value(self._key)
            self._value = value or 0.0
            if value is None:
                self._segment = None
                if not self._segments.full:
                    self._segments.full = True
                    log.error("metrics_full", bytes=LASTING_BYTES)

    def inc(self, amount: float) -> None:
        with self._segments.lock:
            self._value += amount
            self._write(0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._segments.lock:
            self._value = value
            self._write(timestamp or 0.0)

    def get(self) -> float:
        return self._value

    def set_exemplar(self, exemplar: Any) -> None:
        pass

    def get_exemplar(self) -> None:
        return None

    def _write(self, timestamp: float) -> None:
        if self._segment is not None:
            self._segment.write(self._key, self._value, timestamp)


class AllProcesses:
    """Collects the merged values of all processes."""

    def collect(self) -> Iterable[Metric]:
        assert _state.segments is not None
        metrics: dict[str, Metric] = {}
        for number, memory in enumerate([*_state.segments.lasting, *_state.segments.live]):
            for key, value, timestamp, _ in _read(memory):
                _add(metrics, number, key, value, timestamp)
        merge = multiprocess.MultiProcessCollector._accumulate_metrics
        return merge(metrics, True)  # type: ignore[no-untyped-call,no-any-return]  # the library leaves it untyped


def _add(metrics: dict[str, Metric], number: int, key: str, value: float, timestamp: float) -> None:
    kind, mode, metric_name, name, labels, about = _parsed(key)
    metric = metrics.get(metric_name)
    if metric is None:
        metric = metrics[metric_name] = Metric(metric_name, about, kind)
    if kind == "gauge":
        metric._multiprocess_mode = mode  # type: ignore[attr-defined]  # where the library looks for it
        labels = (*labels, ("pid", str(number)))
    metric.add_sample(name, labels, value, timestamp)


@lru_cache(MAX_SERIES)
def _parsed(key: str) -> tuple[str, str, str, str, Any, str]:
    kind, mode, metric_name, name, labels, about = json.loads(key)
    return kind, mode, metric_name, name, tuple(map(tuple, labels)), about


def all_processes() -> AllProcesses | None:
    """Return the collector of all processes that share the port, None in a single process."""
    return None if _state.segments is None else AllProcesses()

"""Metrics of processes that share a port, in memory that they share: nothing on a disk that could be full or gone.

The parent prepares a place for each process before it forks; every process writes its own and any of them reads all. A
place outlives the process in it, so what a process that died had counted stays in the sums.
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

# Of each place; memory is taken only as it is written. A process has about 0.5 MB of series with every route in use.
LASTING_BYTES = 16 * 1024 * 1024
LIVE_BYTES = 1024 * 1024
LIVE = "live"
MAX_SERIES = 100_000

_USED = struct.Struct("q")
_LENGTH = struct.Struct("q")
_VALUE = struct.Struct("dd")

log = structlog.get_logger("aitp_cp.metrics")


class Full(Exception):
    """There is no room for another series."""


class _Place:
    """Series by key in memory: after the bytes in use, each is the length of its key, the key, a value and its time."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._used = max(_USED.unpack_from(memory)[0], _USED.size)
        self._positions = {key: position for key, _, _, position in _read(memory)}

    def value(self, key: str) -> float:
        """The value under this key, which gets room if it is a new one; raises `Full`."""
        if key not in self._positions:
            self._add(key)
        return float(_VALUE.unpack_from(self._memory, self._positions[key])[0])

    def write(self, key: str, value: float, timestamp: float) -> None:
        position = self._positions[key]
        # One assignment, not `pack_into`: that writes zeros first, and another process may read them.
        self._memory[position : position + _VALUE.size] = _VALUE.pack(value, timestamp)

    def _add(self, key: str) -> None:
        encoded = key.encode()
        encoded += b" " * (-len(encoded) % 8)  # so that a value lies within one line of the processor's cache
        entry = _LENGTH.pack(len(encoded)) + encoded + _VALUE.pack(0.0, 0.0)
        end = self._used + len(entry)
        if end > len(self._memory):
            raise Full
        self._memory[self._used : end] = entry
        self._positions[key] = end - _VALUE.size
        self._used = end
        self._memory[: _USED.size] = _USED.pack(end)  # last: others read up to here


def _read(memory: mmap.mmap) -> Iterator[tuple[str, float, float, int]]:
    """Each key with its value, the value's time and where they lie."""
    used, position = _USED.unpack_from(memory)[0], _USED.size
    while position < used:
        begin = position + _LENGTH.size
        position = begin + _LENGTH.unpack_from(memory, position)[0]
        yield (memory[begin:position].rstrip().decode(), *_VALUE.unpack_from(memory, position), position)
        position += _VALUE.size


class _Places:
    """The memory of all processes, and which of it is this one's."""

    def __init__(self, count: int) -> None:
        self.lasting = [mmap.mmap(-1, LASTING_BYTES) for _ in range(count)]
        self.live = [mmap.mmap(-1, LIVE_BYTES) for _ in range(count)]
        self.mine: dict[bool, _Place] = {}
        self.lock = threading.Lock()
        self.full = False

    def all(self) -> list[mmap.mmap]:
        return [*self.lasting, *self.live]


class _Held:
    places: _Places | None = None


_held = _Held()


def prepare(count: int) -> None:
    """Reserve memory for `count` processes; called by their parent."""
    _held.places = _Places(count)


def take(number: int) -> None:
    """Take the place of this number for this process, and go on from what its predecessor counted."""
    places = _held.places
    assert places is not None
    places.mine = {False: _Place(places.lasting[number]), True: _Place(places.live[number])}


def forget(number: int) -> None:
    """Forget what only said how a process was while it lived; called by the parent when that process has ended."""
    if _held.places is not None:
        _held.places.live[number][: _USED.size] = bytes(_USED.size)


def choose_values() -> None:
    """Keep the values of metrics made from now on where they belong; whatever the library's own variable says."""
    values.ValueClass = values.MutexValue if _held.places is None else _SharedValue


class _SharedValue:
    """One number of one process; the interface is the library's."""

    _multiprocess = True

    def __init__(self, kind: str, *named: Any, multiprocess_mode: str = "", **_: Any) -> None:
        """`named` are the names of metric and value, the names and values of the labels, and the help text."""
        assert _held.places is not None
        self._places = _held.places
        place = self._places.mine[multiprocess_mode.startswith(LIVE)]
        self._place: _Place | None = place
        metric_name, name, label_names, label_values, about = named
        labels = sorted(zip(label_names, label_values, strict=True))
        self._key = json.dumps([kind, multiprocess_mode, metric_name, name, labels, about])
        self._value = 0.0
        with self._places.lock:
            try:
                self._value = place.value(self._key)
            except Full:
                self._give_up()

    def inc(self, amount: float) -> None:
        with self._places.lock:
            self._value += amount
            self._write(0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._places.lock:
            self._value = value
            self._write(timestamp or 0.0)

    def get(self) -> float:
        return self._value

    def set_exemplar(self, exemplar: Any) -> None:
        pass

    def get_exemplar(self) -> None:
        return None

    def _write(self, timestamp: float) -> None:
        if self._place is not None:
            self._place.write(self._key, self._value, timestamp)

    def _give_up(self) -> None:
        """Scrapes go on without this series."""
        self._place = None
        if not self._places.full:
            self._places.full = True
            log.error("metrics_full", bytes=LASTING_BYTES)


class Everyone:
    """Collects the values of all processes, put together."""

    def collect(self) -> Iterable[Metric]:
        assert _held.places is not None
        metrics: dict[str, Metric] = {}
        for number, memory in enumerate(_held.places.all()):
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


def everyone() -> Everyone | None:
    """All processes that share the port, or None in one that is alone."""
    return None if _held.places is None else Everyone()

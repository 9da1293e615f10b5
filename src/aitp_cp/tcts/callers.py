"""What each caller reported of one thing, and the row that follows from it (contract, part II, section 9).

A row is made of one state per caller. Reports of one caller merge into its state by rules that are commutative,
associative and idempotent, so their order, repetition and division into batches cannot show. The states stand in the
order in which the log first names their callers: each fills what those before it leave open, and replaces nothing. A
caller that says otherwise than the row makes it disputed. So replaying the log in its order gives the same rows.

What an issuer signed is a state of its own beside what its caller claims, one for each pair of parties, and comes
before the claims. It replaces what is claimed of the same parties, whoever claims it (decision 19).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

import msgspec

# Later callers of one row are compared with it and not kept: a row that only grew could fill the disk. The same number
# of signed states is kept beside them; `Row.left_out` has the others.
MAX_CALLERS = 8


class State(msgspec.Struct, frozen=True):
    """What one caller reported of one thing."""

    @property
    def slot(self) -> str:
        """Which of its caller's states this is; "" holds everything that nobody signed."""
        return ""

    @property
    def is_in_columns(self) -> bool:
        """Return whether the row's columns hold all of it."""
        return True

    def merged(self, other: Self) -> Self:
        """Return both reports of one caller as one."""
        raise NotImplementedError

    def filled(self, other: Self) -> Self:
        """Return this state, with what it lacks taken from `other`, which comes later."""
        raise NotImplementedError

    def disputes(self, row: Self) -> bool:
        """Return whether it says otherwise than the row, about anything that matters."""
        raise NotImplementedError

    def placed(self, before: Sequence[Self]) -> Self:
        """Return this state as it stands to the states of other callers at this moment."""
        return self

    def columns(self) -> tuple[Any, ...]:
        """Return what the row shows of it."""
        return msgspec.structs.astuple(self)


S = TypeVar("S", bound=State)
K = TypeVar("K", UUID, str)


class Reported(msgspec.Struct, Generic[S], frozen=True):
    """What one caller reported, and by which event."""

    caller: str
    state: S
    event_id: UUID


class CallerState(msgspec.Struct, Generic[S], frozen=True):
    """`caller` is None for what an older control plane has stored, which kept no caller."""

    caller: str | None
    state: S


class Row(msgspec.Struct, Generic[S], frozen=True, omit_defaults=True):
    """The states of a row's callers, in the order in which the log first names them."""

    callers: tuple[CallerState[S], ...]
    disputed: bool = False  # by a caller whose state is not kept
    left_out: tuple[CallerState[S], ...] = ()  # signed states without room here, for another table; never stored

    @property
    def owner(self) -> str | None:
        return self.callers[0].caller

    @property
    def shown(self) -> S:
        shown = self.callers[0].state
        for caller in self.callers[1:]:
            shown = shown.filled(caller.state)
        return shown

    @property
    def conflict(self) -> bool:
        shown = self.shown
        return self.disputed or any(caller.state.disputes(shown) for caller in self.callers)

    def with_reports(self, reports: Iterable[Reported[S]]) -> Self:
        """Return the row after these further reports."""
        row = self
        for report in reports:
            row = row._with_report(report.caller, report.state)
        return row

    def _with_report(self, caller: str, state: S) -> Self:
        mine = next((known for known in self.callers if (known.caller, known.state.slot) == (caller, state.slot)), None)
        is_full = mine is None and self._is_full(state)
        if is_full and not state.slot:
            return msgspec.structs.replace(self, disputed=self.disputed or state.disputes(self.shown))
        others = [known.state for known in self.callers if known.caller != caller]
        new = CallerState(caller, (state if mine is None else mine.state.merged(state)).placed(others))
        if mine is None:
            grown = msgspec.structs.replace(self, callers=_in_order((*self.callers, new)))
            return grown._without_one() if is_full else grown
        return msgspec.structs.replace(
            self,
            callers=tuple(new if known is mine else known for known in self.callers),
            disputed=self.disputed or (bool(state.slot) and state.disputes(mine.state)),
        )

    def _without_one(self) -> Self:
        """Return the row without the last signed state that it does not show."""
        shown = self.shown
        signed = [known for known in self.callers if known.state.slot]
        last = next((known for known in reversed(signed) if known.state.slot != shown.slot), signed[-1])
        place = last.caller, last.state.slot
        left_out = {(known.caller, known.state.slot): known for known in self.left_out}
        state = left_out[place].state.merged(last.state) if place in left_out else last.state
        left_out[place] = CallerState(last.caller, state)
        return msgspec.structs.replace(
            self,
            callers=tuple(known for known in self.callers if known is not last),
            disputed=self.disputed or last.state.disputes(shown),
            left_out=tuple(left_out.values()),
        )

    def _is_full(self, state: S) -> bool:
        return sum(bool(known.state.slot) == bool(state.slot) for known in self.callers) >= MAX_CALLERS


def _in_order(callers: Sequence[CallerState[S]]) -> tuple[CallerState[S], ...]:
    """Return the callers as the log names them, of each what is signed before what it claims."""
    names = [known.caller for known in callers]
    return tuple(sorted(callers, key=lambda known: (names.index(known.caller), not known.state.slot, known.state.slot)))


def restored(shown: S, owner: str | None, kept: Row[S] | None) -> Row[S]:
    """Return the row of these columns; `kept` is what `stored_states` wrote, if anything.

    What another version has changed in the columns since then counts as reported first, by nobody known.
    """
    shown = shown.placed(())
    if kept is None:
        return Row((CallerState(owner, shown),))
    if kept.shown.columns() == shown.columns():
        return kept
    rest = tuple(caller for caller in kept.callers if caller.caller is not None)
    return Row((CallerState(None, shown), *rest), kept.disputed)


def stored_states(row: Row[S]) -> str | None:
    """Return the JSON for the table, None while the columns say it all."""
    if len(row.callers) == 1 and row.callers[0].state.is_in_columns and not row.disputed:
        return None
    return msgspec.json.encode(msgspec.structs.replace(row, left_out=())).decode()


def first_row(reports: Sequence[Reported[S]]) -> Row[S]:
    """Return the row that these reports make where there was none."""
    first = reports[0]
    return Row((CallerState(first.caller, first.state.placed(())),)).with_reports(reports[1:])


def by_key(reports: Iterable[tuple[K, Reported[S]]]) -> dict[K, list[Reported[S]]]:
    """Return the reports of each thing in their order, things in key order."""
    grouped: dict[K, list[Reported[S]]] = {}
    for key, report in reports:
        grouped.setdefault(key, []).append(report)
    return {key: grouped[key] for key in sorted(grouped)}

"""Who does what, and how often."""

from tests.torture.load import MOST_EVENTS, Load, Role
from tests.torture.load_access import browse, keep_a_key
from tests.torture.load_agents import contain, speak

REPORTERS = 4


def roles(events_per_sec: float) -> list[Role]:
    """Four reporters that make about so many events a second, and everybody else in proportion."""
    pause = REPORTERS * (MOST_EVENTS + 1) / 2 / events_per_sec
    return [
        *(Role(Load.report, pause) for _ in range(REPORTERS)),
        *(Role(Load.enrol, 4 * pause) for _ in range(2)),
        *(Role(Load.revoke, 3 * pause) for _ in range(2)),
        *(Role(Load.subscribe, 6 * pause) for _ in range(2)),
        Role(Load.anchor, 4 * pause),
        Role(Load.revoke_many, 6 * pause),
        *(Role(speak, 3 * pause) for _ in range(2)),
        *(Role(contain, 6 * pause) for _ in range(2)),
        Role(keep_a_key, 3 * pause),
        Role(browse, 4 * pause),
    ]

"""The rule of least_conn: fewer connections, more of the next ones. The kernel draws; we only move the weights.

A connection goes where the weights of that moment say, and they are as old as the last look. So the rule is soft: a
slot's load is its connections per weight, its room is how far it is below the fullest, plus one, and its share is its
weight times the square of its room. It never gets nothing: until the next look somebody else may have filled up. When
more came since the last look than all the room there is, steering would only overshoot, and the weights are as
configured; they are so as well when all are equally full.

Looking costs (daemon/sockets.py). So the pace is quick after a change and slows down while there is none, a look may
take no more than a twentieth of the time, and when most connections are new at each of several looks in a row, they
are too short to be balanced: the weights stay as configured, and the looks are rare.
"""

from collections.abc import Mapping
from dataclasses import dataclass

QUICKEST, SLOWEST = 0.02, 0.5
"""Seconds between two looks."""

_MOST = 100
"""The weight of the emptiest slot."""
_FLEETING = 5
"""After so many looks in a row at which most were new, connections are taken to be short."""
_SHARE = 20
"""A look costs at most one part in so many of the time."""


def least_conn(counts: Mapping[int, int], weights: Mapping[int, int], recent: int) -> dict[int, int]:
    """The weights until the next look, for the same slots as `weights`: 0 only for a slot that has 0, else 1 to 100.

    They are `weights` themselves when there is nothing to correct. `counts` are connections by slot, 0 for one that is
    not named. `recent` have come since the last look.
    """
    open_ = {slot: weight for slot, weight in weights.items() if weight > 0}
    if not open_:
        return dict(weights)
    mean = sum(open_.values()) / len(open_)
    loads = {slot: counts.get(slot, 0) / weight * mean for slot, weight in open_.items()}
    fullest = max(loads.values())
    room = {slot: fullest - load + 1 for slot, load in loads.items()}
    if fullest == min(loads.values()) or recent > sum(room[slot] * weight / mean for slot, weight in open_.items()):
        return dict(weights)
    shares = {slot: weight * room[slot] ** 2 for slot, weight in open_.items()}
    unit = _MOST / max(shares.values())
    return {slot: max(1, round(shares[slot] * unit)) if slot in shares else 0 for slot in weights}


@dataclass(frozen=True, slots=True)
class Pace:
    """When to look next (`at`, seconds, monotonic), how long after the last one, and how many had mostly new ones."""

    at: float = 0.0
    wait: float = QUICKEST
    fleeting: int = 0

    @property
    def resting(self) -> bool:
        """Connections are too short to be balanced: use the configured weights."""
        return self.fleeting > _FLEETING


def looked(pace: Pace, recent: int, total: int, changed: bool, took: float, now: float) -> Pace:
    """What follows a look that took `took` seconds and found `total` connections, `recent` of them new.

    `changed`: any came or went.
    """
    fleeting = pace.fleeting + 1 if 2 * recent > total else 0
    if fleeting > _FLEETING:
        wait = SLOWEST
    elif changed:
        wait = QUICKEST
    else:
        wait = min(2 * pace.wait, SLOWEST)
    wait = max(wait, _SHARE * took)
    return Pace(now + wait, wait, fleeting)

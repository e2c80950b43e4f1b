"""balance: least_conn, in the real world: look at the connections, move the weights, and look less often in vain."""

import asyncio
from collections.abc import Callable

from pmx.core.balance import Pace, least_conn, looked
from pmx.daemon import traffic
from pmx.daemon.fleet import App, Fleet
from pmx.daemon.sharing import Sharing, slot_of

IDLE = 0.5
"""Seconds between two looks whether any application wants this at all."""


class Balancer:
    """One timer for all applications with balance least_conn."""

    def __init__(self, fleet: Fleet, sharing: Sharing) -> None:
        self._fleet = fleet
        self._sharing = sharing
        self._watched: dict[str, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._wait(IDLE)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._turn)

    def _turn(self) -> None:
        apps = [app for app in self._fleet.apps.values() if app.spec.sharing.balance == "least_conn"]
        self._watched = {app.spec.name: self._watched.get(app.spec.name, _Watched()) for app in apps}
        now = asyncio.get_running_loop().time
        for app in apps:
            if now() >= self._watched[app.spec.name].pace.at:
                self._watched[app.spec.name].look(app, self._sharing, now)
        soonest = min((watched.pace.at for watched in self._watched.values()), default=now() + IDLE)
        self._wait(max(0.0, soonest - now()))


class _Watched:
    """What was seen at the last look at one application."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._seen: set[int] = set()

    def look(self, app: App, sharing: Sharing, now: Callable[[], float]) -> None:
        began = now()
        serving = traffic.serving_of(app.instances)
        held = traffic.held(serving)
        seen = set().union(*held.values())
        new = len(seen - self._seen)
        changed, self._seen = seen != self._seen, seen
        configured = sharing.configured(app)
        counts = {slot_of(each): len(held[each.id]) for each in serving}
        self.pace = looked(self.pace, new, len(seen), changed, now() - began, now())
        sharing.steer(app, configured if self.pace.resting else least_conn(counts, configured, new))

"""What is managed: applications and their instances, by name and by id. An index; it starts and stops nothing."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from pmx.core.fleet import Entry, free_numbers, select
from pmx.core.lifecycle import Machine, Policy
from pmx.core.spec import AppSpec
from pmx.daemon.serving import Serving

HISTORY = 20
"""Changes of phase remembered per instance."""


class Instance:
    """What the daemon knows of one instance. `machine` is replaced by the supervisor alone."""

    __slots__ = (
        "app", "born", "history", "id", "leaving", "machine", "number", "serving", "started_at", "timer", "waiters",
    )  # fmt: skip

    def __init__(self, app: "App", instance_id: int, number: int) -> None:
        self.app = app
        self.id = instance_id
        self.number = number
        self.machine = Machine(policy_of(app.spec), salt=instance_id)
        self.started_at: float | None = None  # wall clock, of the present or latest run
        self.born = 0  # start time of the present pid in clock ticks since boot: with the pid it names a process
        self.serving = Serving()
        self.history: deque[dict[str, object]] = deque(maxlen=HISTORY)
        self.timer: asyncio.TimerHandle | None = None
        self.waiters: list[asyncio.Future[None]] = []
        self.leaving = False  # it is being stopped to be removed, and counts no more when its application is scaled

    @property
    def key(self) -> str:
        """The keeper's name for it."""
        return str(self.id)


class App:
    """One application and its instances, in order of their numbers."""

    def __init__(self, spec: AppSpec, created_at: float) -> None:
        self.spec = spec
        self.created_at = created_at
        self.instances: list[Instance] = []


class Fleet:
    """All applications. Ids grow, and begin at 0 again when nothing is left (as in PM2)."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.by_id: dict[int, Instance] = {}
        self.next_id = 0

    def instances(self) -> list[Instance]:
        return list(self.by_id.values())

    def find(self, key: str) -> Instance | None:
        return self.by_id.get(int(key)) if key.isdigit() else None

    def add(self, app: App, reuse: Sequence[int] = ()) -> None:
        """Take `app` in with as many instances as its spec says, with the ids in `reuse` and new ones after them."""
        self.apps[app.spec.name] = app
        for number in range(app.spec.instances):
            self._place(app, reuse[number] if number < len(reuse) else self.next_id, number)

    def grow(self, app: App, count: int) -> list[Instance]:
        """`count` more instances for `app`, with new ids and the lowest numbers that are free."""
        numbers = free_numbers((instance.number for instance in app.instances), count)
        grown = [self._place(app, self.next_id, number) for number in numbers]
        app.instances.sort(key=lambda instance: instance.number)
        app.spec = replace(app.spec, instances=len(app.instances))
        return grown

    def remove(self, instance: Instance) -> None:
        """Forget one instance, and its application with the last."""
        del self.by_id[instance.id]
        app = instance.app
        app.instances.remove(instance)
        if app.instances:
            app.spec = replace(app.spec, instances=len(app.instances))
        else:
            self.apps.pop(app.spec.name, None)
        if not self.by_id:
            self.next_id = 0

    def _place(self, app: App, instance_id: int, number: int) -> Instance:
        instance = Instance(app, instance_id, number)
        self.next_id = max(self.next_id, instance_id + 1)
        app.instances.append(instance)
        self.by_id[instance_id] = instance
        return instance

    def select(self, selectors: Sequence[str]) -> list[Instance]:
        """The instances that `selectors` name (core.fleet). Raises NotFound."""
        entries = [Entry(i.id, i.app.spec.name, i.app.spec.namespace) for i in self.by_id.values()]
        return [self.by_id[found] for found in select(entries, selectors)]


def policy_of(spec: AppSpec) -> Policy:
    return Policy(spec.restart, spec.stop)


Predicate = Callable[[Machine], bool]

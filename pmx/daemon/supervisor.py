"""The imperative shell of core.lifecycle: facts and commands in, effects out, timers in between.

There is no lock and no queue. A command moves what is wanted and returns; who wants to know when it is so, waits
for it with `until`. Commands may overlap in any order: the last word wins.
"""

import asyncio
import logging
from collections.abc import Iterable

from pmx.core import lifecycle as lc
from pmx.daemon.clock import monotonic
from pmx.daemon.effects import Effects
from pmx.daemon.fleet import Instance, Predicate

log = logging.getLogger("pmx.supervisor")


class Supervisor:
    """Applies events to machines. Must be used in the event loop's thread; `step` never blocks."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    def apply(self, instance: Instance, event: lc.Event) -> None:
        """Let `event` happen to `instance`, and do what follows from it."""
        try:
            machine, actions = lc.step(instance.machine, event, monotonic())
        except lc.Impossible as error:
            log.error("%s[%d]: %s", instance.app.spec.name, instance.id, error)
            return
        self.become(instance, machine, actions)

    def become(self, instance: Instance, machine: lc.Machine, actions: Iterable[lc.Action]) -> None:
        """Take a step that was computed: the new machine and its actions."""
        instance.machine = machine
        self._arm(instance)
        for action in actions:
            self._perform(instance, action)
        waiters, instance.waiters = instance.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def forget(self, instance: Instance) -> None:
        """No timer of `instance` will fire any more."""
        if instance.timer is not None:
            instance.timer.cancel()
            instance.timer = None

    async def until(self, instance: Instance, predicate: Predicate) -> lc.Machine:
        """Wait until `predicate` holds for the machine of `instance`, and return that machine."""
        while not predicate(instance.machine):
            waiter = asyncio.get_running_loop().create_future()
            instance.waiters.append(waiter)
            await waiter
        return instance.machine

    def _arm(self, instance: Instance) -> None:
        self.forget(instance)
        deadline = instance.machine.deadline
        if deadline is not None:
            instance.timer = asyncio.get_running_loop().call_at(deadline, self.apply, instance, lc.Elapsed())

    def _perform(self, instance: Instance, action: lc.Action) -> None:
        match action:
            case lc.Spawn(run):
                self._effects.spawn(instance, run)
            case lc.Terminate(run, whom):
                self._effects.terminate(instance, run, whom)
            case lc.Kill(run):
                self._effects.kill(instance, run)
            case lc.Changed():
                self._effects.changed(instance, action)

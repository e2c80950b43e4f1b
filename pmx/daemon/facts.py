"""What the keeper says, turned into events; and what the keeper may forget.

An end is acknowledged only when nothing more is to come of its run and the snapshot that knows it is written: a
daemon that dies earlier is told again, and one that dies later need not be.
"""

import asyncio
import logging
import os
from signal import SIGKILL
from typing import TYPE_CHECKING

from pmx.core import lifecycle as lc
from pmx.core.restart import Exit
from pmx.daemon.clock import monotonic
from pmx.daemon.fleet import Instance
from pmx.daemon.hands import born
from pmx.daemon.keeperlink import KeeperLink
from pmx.daemon.logs import parse_name
from pmx.daemon.signals import name_of
from pmx.keeper import protocol as p

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon

log = logging.getLogger("pmx.facts")


class Facts:
    """Listens to the keeper. `met` is done when the first message has come and the fleet agrees with the keeper."""

    def __init__(self, daemon: "Daemon", link: KeeperLink) -> None:
        self._fleet = daemon.fleet
        self._supervisor = daemon.supervisor
        self._hands = daemon.hands
        self._sharing = daemon.sharing
        self._talks = daemon.hands.talks
        self._link = link
        self._over: list[p.Acknowledge] = []
        self.keeper_pid = 0
        self.met: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told_to_end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(self, message: p.Message, fds: list[int]) -> None:
        match message:
            case p.Spawned(key, run, pid):
                self._about(key, lc.Spawned(run, pid))
            case p.Failed(key, run, _, error):
                self._about(key, lc.SpawnFailed(run, error))
            case p.Exited():
                self._exited(message)
            case p.Gone(key, run):
                self._about(key, lc.Gone(run))
                self._over.append(p.Acknowledge(key, run))
            case p.Hello():
                self._meet(message)
            case p.Stopping(reason) if not self.told_to_end.done():
                self.told_to_end.set_result(reason)
            case _:
                self._heard_of_sockets(message, fds)

    def _heard_of_sockets(self, message: p.Message, fds: list[int]) -> None:
        match message:
            case p.Descriptor(name):
                self._connect(name, fds[0])
            case p.Listening():
                self._sharing.listening(message)
            case p.Unshared():
                self._sharing.unshared(message)
            case p.Released(group, _):
                self._sharing.released(group)
            case p.Refused():
                self._talks.refused(message)

    def on_record(self) -> None:
        """Everything heard until now is in the snapshot."""
        over, self._over = self._over, []
        for acknowledgement in over:
            self._link.send(acknowledgement)

    def _connect(self, name: str, fd: int) -> None:
        if name.startswith("log:"):
            instance_id, stream = parse_name(name)
            self._hands.connect(name, fd, self._fleet.by_id.get(instance_id), stream)
        elif not self._talks.connect(name, fd):
            os.close(fd)

    def _about(self, key: str, event: lc.Event) -> None:
        instance = self._fleet.find(key)
        if instance is not None:
            self._supervisor.apply(instance, event)

    def _exited(self, end: p.Exited) -> None:
        code = end.code if end.code >= 0 else None
        signal = name_of(end.signal) if end.signal else ""
        self._talks.over(end.key, end.run)
        self._about(end.key, lc.Exited(end.run, code, signal, end.leftover))
        if not end.leftover:
            self._over.append(p.Acknowledge(end.key, end.run))

    def _meet(self, hello: p.Hello) -> None:
        """Bring the fleet of the snapshot in line with what the keeper holds."""
        self.keeper_pid = hello.pid
        living = {key: (run, pid) for key, run, pid in hello.runs}
        ends: dict[str, list[int]] = {}
        for key, run in hello.ends:
            ends.setdefault(key, []).append(run)
        for instance in self._fleet.instances():
            self._resume(instance, living.get(instance.key), ends.get(instance.key, []))
        for key, (run, _) in living.items():
            if self._fleet.find(key) is None:
                log.error("ending run %d of %s, which is in no snapshot", run, key)
                self._link.send(p.Signal(key, run, SIGKILL, lc.Whom.ALL.value))
        for name in hello.descriptors:
            self._take_back(name)
        self.met.set_result(None)

    def _take_back(self, name: str) -> None:
        """Connect again what the keeper has kept, or have it dropped."""
        kind, key, *rest = name.split(":")
        owner = self._fleet.find(key)
        if owner is None:
            self._link.send(p.Drop(name))
        elif kind == "log":
            self._hands.pipe(owner, rest[0])
        elif kind != "ipc" or int(rest[0]) == owner.machine.run:
            self._link.send(p.Open(name))

    def _resume(self, instance: Instance, living: tuple[int, int] | None, ends: list[int]) -> None:
        machine = instance.machine
        if living is None and machine.pid and born(machine.pid) == instance.born != 0:
            # Its keeper was killed. A second copy must never be started beside it.
            why = f"pid {machine.pid} still runs, but its keeper was killed: end it, then pmx start"
            self._supervisor.become(instance, *lc.disown(machine, Exit(error=why), monotonic()))
            return
        resumed = lc.resume(machine, living, machine.run in ends, monotonic(), max(ends, default=0))
        self._supervisor.become(instance, *resumed)
        if instance.machine.pid and not instance.born:
            instance.born = born(instance.machine.pid)
        if instance.machine.phase is lc.Phase.STOPPED and instance.machine.wanted is lc.Wanted.UP:
            self._supervisor.apply(instance, lc.Start("it was up when the machine went down"))

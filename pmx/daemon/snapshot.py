"""What a new daemon needs to know of the old one, on disk: specs, machines, counters.

It is written after every change, at most as often as keeps the daemon idle, by rename, so a reader sees the old or
the new one whole. It is not synced: it must survive the daemon, and the page cache does. Machines hold monotonic
times, which mean something only until the next boot, so the boot id stands beside them.

Versions: 1, the first.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pmx.core.lifecycle import RESTING, Machine, Phase, Wanted
from pmx.core.restart import Exit, Record
from pmx.core.spec import AppSpec, from_wire, to_wire
from pmx.daemon.fleet import App, Fleet, Instance, policy_of
from pmx.errors import ResourceProblem

log = logging.getLogger("pmx.snapshot")

VERSION = 1
_SOONEST = 0.05
_COST_SHARE = 20
"""Writing may take at most one part in this many of the daemon's time."""


class Snapshot:
    """The file. `written` is called after each write: what was waiting to be on record now is."""

    def __init__(self, path: str, fleet: Fleet, written: Callable[[], None]) -> None:
        self._path = path
        self._fleet = fleet
        self._written = written
        self._timer: asyncio.TimerHandle | None = None
        self._cost = 0.0
        self._failed = False
        self._frozen = False

    def changed(self) -> None:
        """Something is not on record yet: write soon."""
        if self._timer is None and not self._frozen:
            delay = max(_SOONEST, self._cost * _COST_SHARE)
            self._timer = asyncio.get_running_loop().call_later(delay, self.write)

    def write(self) -> None:
        """Write now. A full disk is logged once; the next change tries again."""
        try:
            self.must_write()
        except ResourceProblem as problem:
            if not self._failed:
                log.error("%s; a daemon that dies now will be missed", problem.message)
            self._failed = True

    def must_write(self) -> None:
        """Write now, or raise ResourceProblem."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._frozen:
            return
        began = time.monotonic()
        try:
            _replace(self._path, json.dumps(dump(self._fleet), separators=(",", ":")))
        except OSError as error:
            raise ResourceProblem(
                f"cannot put the change on record in {self._path}: {error.strerror}", "make room, then try again"
            ) from None
        finally:
            self._cost = time.monotonic() - began
        self._failed = False
        self._written()

    def freeze(self) -> None:
        """Write a last time: what follows is the end of this daemon, not a wish of the user."""
        self.write()
        self._frozen = True

    def remove(self) -> None:
        """Nothing is to be remembered."""
        self._frozen = True
        if self._timer is not None:
            self._timer.cancel()
        if os.path.exists(self._path):
            os.unlink(self._path)


def load(path: str, fleet: Fleet) -> bool:
    """Fill `fleet` from the snapshot. Returns whether its runs belong to this boot. Sets a bad file aside."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']}")
        same_boot = data["boot"] == boot_id()
        for app in data["apps"]:
            _load_app(app, fleet, same_boot)
        fleet.next_id = data["next_id"]
        return bool(same_boot)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        aside = f"{path}.bad"
        log.error("cannot read the snapshot: %s; it is kept as %s, and what the keeper knows is used", error, aside)
        fleet.apps.clear()
        fleet.by_id.clear()
        os.replace(path, aside)
        return True


def dump(fleet: Fleet) -> dict[str, Any]:
    """The snapshot of `fleet`, ready for JSON."""
    return {
        "version": VERSION,
        "boot": boot_id(),
        "next_id": fleet.next_id,
        "apps": [
            {
                "spec": to_wire(app.spec),
                "created_at": app.created_at,
                "instances": [_dump_instance(instance) for instance in app.instances],
            }
            for app in fleet.apps.values()
        ],
    }


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _dump_instance(instance: Instance) -> dict[str, Any]:
    machine = {name: getattr(instance.machine, name) for name in Machine.__slots__ if name != "policy"}  # in the spec
    machine["record"] = to_wire(instance.machine.record)
    machine["ended"] = instance.machine.ended and to_wire(instance.machine.ended)
    return {
        "id": instance.id,
        "number": instance.number,
        "machine": machine,
        "started_at": instance.started_at,
        "born": instance.born,
        "history": list(instance.history),
    }


def _load_app(data: dict[str, Any], fleet: Fleet, same_boot: bool) -> None:
    app = App(from_wire(AppSpec, data["spec"]), data["created_at"])
    app.spec = replace(app.spec, instances=len(data["instances"]))  # some may have been deleted by id
    fleet.add(app, [each["id"] for each in data["instances"]])
    for instance, each in zip(app.instances, data["instances"], strict=True):
        instance.number = each["number"]
        instance.started_at = each["started_at"]
        instance.born = each["born"]
        instance.history.extend(each["history"])
        instance.machine = _load_machine(each["machine"], instance, same_boot)


def _load_machine(data: dict[str, Any], instance: Instance, same_boot: bool) -> Machine:
    ended = from_wire(Exit, data["ended"]) if data["ended"] else None
    machine = Machine(
        policy_of(instance.app.spec),
        salt=data["salt"],
        wanted=Wanted(data["wanted"]),
        phase=Phase(data["phase"]),
        run=data["run"],
        restarts=data["restarts"],
        ended=ended,
        shown=data["shown"],
    )
    if not same_boot and machine.phase not in RESTING:
        # Whatever ran is gone with the machine's last boot, and so are its clocks.
        return Machine(machine.policy, machine.salt, machine.wanted, restarts=machine.restarts, ended=ended)
    record = from_wire(Record, data["record"])
    return replace(machine, pid=data["pid"], since=data["since"], deadline=data["deadline"], record=record)


def _replace(path: str, text: str) -> None:
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)

"""How much each instance of a shared port has to do, looked up when somebody asks: connections, and what waits."""

import os
from collections.abc import Iterable
from typing import NamedTuple

from pmx.daemon import sockets
from pmx.daemon.fleet import Instance
from pmx.daemon.sharing import ports_of
from pmx.daemon.sockets import Queue


class Traffic(NamedTuple):
    """`share` is in percent of the application's connections, None when it has none. `queues` are by URL."""

    connections: int
    share: float | None
    queues: dict[str, Queue]

    @property
    def waiting(self) -> int:
        return sum(queue.waiting for queue in self.queues.values())


def look(instances: Iterable[Instance]) -> dict[int, Traffic]:
    """The traffic of each instance that listens on a shared port, by id."""
    serving = serving_of(instances)
    queues = sockets.listeners({port for each in serving for port in ports_of(each)}) if serving else {}
    counts: dict[int, int] = {}
    totals: dict[str, int] = {}
    for app in {each.app.spec.name: each.app for each in serving}.values():
        its = [each for each in serving if each.app is app]
        counts |= sockets.connections(*_asked(its))
        totals[app.spec.name] = sum(counts[each.id] for each in its)
    return {each.id: _of(each, counts[each.id], totals[each.app.spec.name], queues) for each in serving}


def serving_of(instances: Iterable[Instance]) -> list[Instance]:
    """Those that have a process, and a listener."""
    return [each for each in instances if each.serving.listeners and each.machine.pid]


def held(instances: list[Instance]) -> dict[int, set[int]]:
    """The sockets of the connections that each of `instances`, of one application, has on its ports, by id."""
    return sockets.held(*_asked(instances)) if instances else {}


def _asked(instances: list[Instance]) -> tuple[set[int], dict[int, list[int]]]:
    """What daemon/sockets.py wants to know: the ports, and whose processes which are."""
    ports = {port for each in instances for port in ports_of(each)}
    return ports, {each.id: family(each.machine.pid or 0) for each in instances}


def family(pid: int) -> list[int]:
    """`pid` and its descendants (proc(5): /proc/PID/task/TID/children)."""
    found = [pid]
    for each in found:
        found.extend(_children(each))
    return found


def _children(pid: int) -> list[int]:
    # Of every thread: a child belongs to the one that forked it. Gone meanwhile: none.
    found: list[int] = []
    for task in _names(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
        except OSError:
            continue
    return found


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _of(instance: Instance, count: int, total: int, queues: dict[int, Queue]) -> Traffic:
    share = round(count / total * 100, 1) if total else None
    its = {url: queues[inode] for url, inode in instance.serving.listeners.items() if inode in queues}
    return Traffic(count, share, its)

"""What several verbs do: pick instances, read arguments, say what is so now."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pmx.daemon import records
from pmx.daemon.fleet import Instance
from pmx.daemon.metrics import Usage
from pmx.daemon.records import Record
from pmx.errors import UsageProblem

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon


def chosen(daemon: "Daemon", args: dict[str, Any]) -> list[Instance]:
    """The instances that ``args["selectors"]`` names. Raises NotFound and UsageProblem."""
    selectors = args.get("selectors")
    if not isinstance(selectors, list) or not all(isinstance(each, str) for each in selectors) or not selectors:
        raise UsageProblem("cannot tell which programs are meant: no selector was given", "give a name, an id or all")
    return daemon.fleet.select(selectors)


def rows(daemon: "Daemon", instances: Sequence[Instance]) -> list[Record]:
    """The `pmx ls` rows of `instances`."""
    now, usage = _look(daemon)
    return [records.brief(i, usage.get(i.machine.pid or 0), now) for i in instances]


def details(daemon: "Daemon", instances: Sequence[Instance]) -> list[Record]:
    """Everything there is to say about `instances`."""
    now, usage = _look(daemon)
    return [records.full(i, usage.get(i.machine.pid or 0), now, daemon.home) for i in instances]


def _look(daemon: "Daemon") -> tuple[float, dict[int, Usage]]:
    """The monotonic time, and what every program uses now: of all, since metrics forget whom they are not asked for."""
    now = asyncio.get_running_loop().time()
    return now, daemon.metrics.look((i.machine.pid for i in daemon.fleet.by_id.values() if i.machine.pid), now)

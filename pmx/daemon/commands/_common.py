"""What several verbs do: pick instances, read arguments, say what is so now."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pmx.daemon import records, traffic
from pmx.daemon.clock import monotonic
from pmx.daemon.fleet import Instance
from pmx.daemon.metrics import Usage
from pmx.daemon.records import Record
from pmx.daemon.traffic import Traffic
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
    now, usage, loads = _look(daemon, instances)
    return [records.brief(i, usage.get(i.machine.pid or 0), loads.get(i.id), now) for i in instances]


def details(daemon: "Daemon", instances: Sequence[Instance]) -> list[Record]:
    """Everything there is to say about `instances`."""
    now, usage, loads = _look(daemon, instances)
    return [records.full(i, usage.get(i.machine.pid or 0), loads.get(i.id), now, daemon.home) for i in instances]


def _look(daemon: "Daemon", asked: Sequence[Instance]) -> tuple[float, dict[int, Usage], dict[int, Traffic]]:
    """The monotonic time, what every program uses now, and the traffic of the applications that are asked about.

    The use is of all, since metrics forget whom they are not asked for.
    """
    now = monotonic()
    usage = daemon.metrics.look((i.machine.pid for i in daemon.fleet.by_id.values() if i.machine.pid), now)
    apps = {i.app.spec.name: i.app for i in asked}
    return now, usage, traffic.look(i for app in apps.values() for i in app.instances)

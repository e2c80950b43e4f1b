"""stop: end the chosen instances and keep them in the list."""

from typing import TYPE_CHECKING, Any

from pmx.core import lifecycle as lc
from pmx.daemon.commands._common import chosen, rows
from pmx.daemon.fleet import Instance

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    instances = chosen(daemon, args)
    running = [instance.id for instance in instances if instance.machine.pid is not None]
    await stop_and_wait(daemon, instances)
    return {"stopped": running, "records": rows(daemon, instances)}


async def stop_and_wait(daemon: "Daemon", instances: list[Instance]) -> None:
    """Until each is stopped, or somebody wants it up again meanwhile: the last word wins."""
    await daemon.sharing.retire(instances)
    for instance in instances:
        daemon.supervisor.apply(instance, lc.Stop())
    for instance in instances:
        await daemon.supervisor.until(instance, _stopped_or_wanted)
    await daemon.sharing.closed({instance.app.spec.name for instance in instances})


def _stopped_or_wanted(machine: lc.Machine) -> bool:
    return machine.phase is lc.Phase.STOPPED or machine.wanted is lc.Wanted.UP

"""kill: stop everything, forget it, and end the daemon and the keeper."""

from typing import TYPE_CHECKING, Any

from pmx.core.lifecycle import RESTING
from pmx.daemon.commands.delete import remove

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    count = len(daemon.fleet.by_id)
    if count:
        await tell(f"stopping {count} program{'s' if count > 1 else ''}")
    stopped = sum(instance.machine.phase not in RESTING for instance in daemon.fleet.instances())
    await daemon.stop_all()
    for instance in daemon.fleet.instances():
        remove(daemon, instance)
    daemon.snapshot.remove()
    daemon.end("pmx kill")
    return {"stopped": stopped, "keeper": daemon.facts.keeper_pid}

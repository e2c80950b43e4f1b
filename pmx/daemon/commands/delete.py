"""delete: end the chosen instances and forget them. Their log files stay."""

from typing import TYPE_CHECKING, Any

from pmx.core import lifecycle as lc
from pmx.daemon.commands._common import chosen
from pmx.daemon.commands.stop import stop_and_wait
from pmx.daemon.fleet import Instance
from pmx.errors import Conflict

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    instances = chosen(daemon, args)
    await stop_and_wait(daemon, instances)
    deleted, kept = [], []
    for instance in instances:
        if daemon.fleet.by_id.get(instance.id) is not instance:
            continue  # another delete was faster
        if instance.machine.phase is lc.Phase.STOPPED:
            remove(daemon, instance)
            deleted.append(instance.id)
        else:
            kept.append(instance.app.spec.name)
    if kept:
        raise Conflict(f"cannot delete {', '.join(sorted(set(kept)))}: somebody started it meanwhile", "try again")
    return {"deleted": deleted}


def remove(daemon: "Daemon", instance: Instance) -> None:
    """Forget an instance that has no process."""
    daemon.supervisor.forget(instance)
    daemon.hands.disconnect(instance)
    daemon.fleet.remove(instance)
    daemon.snapshot.changed()

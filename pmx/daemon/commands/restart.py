"""restart: end the chosen instances and start them anew; with ``env`` in that environment."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pmx.core import lifecycle as lc
from pmx.daemon.commands._common import chosen, rows
from pmx.daemon.commands.start import watch
from pmx.daemon.fleet import Instance

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    instances = chosen(daemon, args)
    if isinstance(args.get("env"), dict):
        for app in {id(instance.app): instance.app for instance in instances}.values():
            app.spec = replace(app.spec, command=replace(app.spec.command, env=args["env"]))
    before = {instance.id: instance.machine.run for instance in instances}
    for instance in instances:
        daemon.supervisor.apply(instance, lc.Restart())
    for instance in instances:
        await _next_run(daemon, instance, before[instance.id])
    await watch(daemon, instances)
    return {"records": rows(daemon, instances)}


async def _next_run(daemon: "Daemon", instance: Instance, run: int) -> None:
    """Until the run that was is over and the next has begun, or somebody stopped it meanwhile."""
    await daemon.supervisor.until(instance, lambda m: m.run > run or m.wanted is lc.Wanted.DOWN)

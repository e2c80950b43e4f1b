"""scale: more instances of an application, or fewer. ``to`` is a number, +2, -1 or max.

Until the first `await` nobody else has a turn, so a request counts, adds and marks what must go in one piece; another
that comes meanwhile finds the new ones there, and those that must go marked. An instance is on record from before its
process until after it, so that a daemon that dies in between leaves nobody without an owner.
"""

import os
from typing import TYPE_CHECKING, Any

from pmx.core import lifecycle as lc
from pmx.core.fleet import scaled
from pmx.daemon.commands._common import chosen, rows
from pmx.daemon.commands.delete import remove
from pmx.daemon.commands.start import check_logs, watch
from pmx.daemon.commands.stop import stop_and_wait
from pmx.daemon.fleet import App, Instance
from pmx.errors import Conflict, NotFound, PmxError, ProgramProblem, UsageProblem

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    app = _the_app(chosen(daemon, args))
    name = app.spec.name
    staying = [instance for instance in app.instances if not instance.leaving]
    now, to = len(staying), scaled(name, len(staying), str(args.get("to")), len(os.sched_getaffinity(0)))
    if not any(map(_is_up, staying)):
        raise Conflict(f"cannot scale {name}: none of its instances is running", f"first start it: pmx start {name}")
    if to > now:
        await _grow(daemon, app, to - now)
    elif to < now:
        await _shrink(daemon, name, staying[to:])
    return {"name": name, "from": now, "to": to, "records": rows(daemon, app.instances)}


def _the_app(instances: list[Instance]) -> App:
    apps = list({instance.app.spec.name: instance.app for instance in instances}.values())
    if not apps:
        raise NotFound("cannot scale a program: there is none yet", "start one: pmx start app.py")
    if len(apps) > 1:
        names = ", ".join(sorted(app.spec.name for app in apps))
        raise UsageProblem(f"cannot scale {len(apps)} programs at once: {names}", "name one of them")
    return apps[0]


def _is_up(instance: Instance) -> bool:
    return instance.machine.wanted is lc.Wanted.UP and instance.machine.phase not in lc.RESTING


async def _grow(daemon: "Daemon", app: App, count: int) -> None:
    """Add instances and start them, or leave everything as it was."""
    new = daemon.fleet.grow(app, count)
    try:
        check_logs(daemon, app)
        daemon.snapshot.must_write()  # before there is a process: a daemon that dies now must know whose it is
    except PmxError:
        for instance in new:
            remove(daemon, instance)
        raise
    for instance in new:
        daemon.supervisor.apply(instance, lc.Start("scale"))
    try:
        await watch(daemon, new)
    except ProgramProblem:
        await _retire(daemon, new)
        raise


async def _shrink(daemon: "Daemon", name: str, surplus: list[Instance]) -> None:
    if await _retire(daemon, surplus):
        raise Conflict(f"cannot scale {name}: somebody started what was to end", "try again")


async def _retire(daemon: "Daemon", instances: list[Instance]) -> bool:
    """Stop and remove; whether somebody started one of them meanwhile, so that it was kept."""
    for instance in instances:
        instance.leaving = True
    await stop_and_wait(daemon, instances)
    kept = False
    for instance in instances:
        if daemon.fleet.by_id.get(instance.id) is not instance:
            continue  # a delete was faster
        if instance.machine.phase is lc.Phase.STOPPED:
            remove(daemon, instance)
        else:
            instance.leaving = False
            kept = True
    return kept

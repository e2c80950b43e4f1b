"""start: a new application, or instances that exist.

A start is watched for a moment, so that a program that cannot run, or dies at once, is told to the person who
started it and not only to a log. One that could never be executed is not kept; one that died is, since it may come
up at the next try, and its policy says when.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from pmx.core import lifecycle as lc
from pmx.core.fleet import check_instances, check_name
from pmx.core.spec import AppSpec, from_wire
from pmx.daemon import records
from pmx.daemon.clock import wall
from pmx.daemon.commands._common import chosen, rows
from pmx.daemon.commands.delete import remove
from pmx.daemon.fleet import App, Instance
from pmx.daemon.hands import NOWHERE, STREAMS
from pmx.daemon.logs import check_log, pipe_name, tail
from pmx.daemon.signals import stop_signal
from pmx.errors import Conflict, PmxError, ProgramDied, ProgramProblem, UsageProblem

if TYPE_CHECKING:
    from pmx.daemon.app import Daemon
    from pmx.daemon.control import Tell

SETTLE = 0.2
"""Seconds for which a new process is watched. Python tells a syntax error in 30 ms, node a missing module in 150."""


async def run(daemon: "Daemon", args: dict[str, Any], tell: "Tell") -> dict[str, Any]:
    if "spec" in args:
        return await _start_new(daemon, _read_spec(args["spec"]))
    instances = chosen(daemon, args)
    for instance in instances:
        daemon.supervisor.apply(instance, lc.Start())
    await watch(daemon, instances)
    return {"records": rows(daemon, instances)}


def _read_spec(data: dict[str, Any]) -> AppSpec:
    try:
        spec = from_wire(AppSpec, data)
    except (TypeError, ValueError, KeyError) as error:
        raise UsageProblem(f"cannot read what is to be started: {error}") from None
    check_name(spec.name)
    if not spec.command.argv:
        raise UsageProblem(f"cannot start {spec.name}: there is nothing to execute")
    try:
        stop_signal(spec.stop.signal, None)
    except KeyError:
        raise UsageProblem(
            f"cannot stop {spec.name} with {spec.stop.signal}: no such signal", "see --stop-signal"
        ) from None
    check_instances(spec.instances)
    return spec


async def _start_new(daemon: "Daemon", spec: AppSpec) -> dict[str, Any]:
    app = _enlist(daemon, spec)
    try:
        check_logs(daemon, app)
        daemon.snapshot.must_write()  # before there is a process: a daemon that dies now must know whose it is
    except PmxError:
        _strike(daemon, app)
        raise
    for instance in app.instances:
        daemon.supervisor.apply(instance, lc.Start())
    instances = list(app.instances)
    try:
        await watch(daemon, instances)
    except ProgramProblem:
        await _give_up(daemon, instances)
        raise
    return {"records": rows(daemon, instances)}


def _enlist(daemon: "Daemon", spec: AppSpec) -> App:
    """Put the application on the list, in the place of one of that name if it is at rest. Raises Conflict."""
    old = daemon.fleet.apps.get(spec.name)
    ids: list[int] = []
    if old is not None:
        if any(instance.machine.phase not in lc.RESTING for instance in old.instances):
            raise Conflict(
                f"cannot start {spec.name}: a program of that name is running",
                f"pmx restart {spec.name}, or choose another name with --name",
            )
        ids = [instance.id for instance in old.instances]
        _strike(daemon, old)
    app = App(spec, wall())
    daemon.fleet.add(app, reuse=ids)
    return app


def _strike(daemon: "Daemon", app: App) -> None:
    for instance in list(app.instances):
        remove(daemon, instance)


async def _give_up(daemon: "Daemon", instances: list[Instance]) -> None:
    for instance in instances:
        daemon.supervisor.apply(instance, lc.Stop("it cannot be executed"))
    for instance in instances:
        await daemon.supervisor.until(instance, lambda machine: machine.phase is lc.Phase.STOPPED)
        if daemon.fleet.by_id.get(instance.id) is instance:  # a delete may have been faster
            remove(daemon, instance)


def check_logs(daemon: "Daemon", app: App) -> None:
    for instance in app.instances:
        for stream in STREAMS:
            path = records.log_path(instance, stream, daemon.home)
            if path not in NOWHERE:
                check_log(path)


async def watch(daemon: "Daemon", instances: list[Instance]) -> None:
    """See the latest run of each instance through its first moments. Raises ProgramProblem or ProgramDied."""
    runs = [(instance, instance.machine.run) for instance in instances]
    for instance, run in runs:
        await _leave(daemon, instance, run, lc.Phase.STARTING)
    for instance, run in _firsts(runs):
        await _survive(daemon, instance, run)
    for instance, run in runs:
        _raise_if_dead(daemon, instance, run)


def _firsts(runs: list[tuple[Instance, int]]) -> list[tuple[Instance, int]]:
    """The first of each application: what its code does at once, the others do too, so one wait serves for all."""
    return list({id(instance.app): (instance, run) for instance, run in reversed(runs)}.values())


async def _leave(daemon: "Daemon", instance: Instance, run: int, phase: lc.Phase) -> None:
    """Until the run is over or past `phase`."""
    await daemon.supervisor.until(instance, lambda machine: machine.run != run or machine.phase is not phase)


async def _survive(daemon: "Daemon", instance: Instance, run: int) -> None:
    """Until SETTLE has passed since the run began, or it ended."""
    wait = instance.machine.since + SETTLE - asyncio.get_running_loop().time()
    if wait > 0 and instance.machine.phase is lc.Phase.ONLINE:
        try:
            async with asyncio.timeout(wait):
                await _leave(daemon, instance, run, lc.Phase.ONLINE)
        except TimeoutError:
            pass  # it lives


def _raise_if_dead(daemon: "Daemon", instance: Instance, run: int) -> None:
    machine, name = instance.machine, instance.app.spec.name
    if machine.run == run and machine.phase in (lc.Phase.ONLINE, lc.Phase.COMPLETED):
        return
    if machine.wanted is lc.Wanted.DOWN or machine.ended is None:
        return  # somebody stopped it meanwhile: not its fault
    if machine.ended.error:
        raise ProgramProblem(machine.ended.error, "pmx describe shows how it is started")
    daemon.logs.drain(tuple(pipe_name(instance.id, stream) for stream in STREAMS))
    last = tail(records.log_path(instance, "error", daemon.home), 5)
    said = "".join(f"\n  {line}" for line in last)
    again = "pmx goes on trying" if machine.phase not in lc.RESTING else "it is not restarted"
    raise ProgramDied(
        f"cannot keep {name} running: it {machine.ended.words()} after {machine.ended.uptime * 1000:.0f} ms, "
        f"and {again}{said}",
        f"pmx logs {name} shows its output, pmx delete {name} gives it up",
    )

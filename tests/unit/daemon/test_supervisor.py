import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pmx.core import lifecycle as lc
from pmx.core.spec import AppSpec, Command, RestartPolicy, StopPolicy
from pmx.daemon.fleet import App, Fleet, Instance
from pmx.daemon.supervisor import Supervisor
from tests.unit.support import LIMIT

pytestmark = pytest.mark.usefixtures("nothing_left")


class Recorder:
    """Effects on nothing: what was to be done, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.phases: list[lc.Phase] = []

    def spawn(self, instance: Instance, run: int) -> None:
        self.done.append(("spawn", run))

    def terminate(self, instance: Instance, run: int, whom: lc.Whom) -> None:
        self.done.append((f"terminate {whom.value}", run))

    def kill(self, instance: Instance, run: int) -> None:
        self.done.append(("kill", run))

    def changed(self, instance: Instance, change: lc.Changed) -> None:
        self.phases.append(change.new)
        assert instance.machine.phase is change.new  # whoever is told sees what is so


async def turn() -> None:
    """Let the loop go round once."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


Scene = Callable[[Supervisor, Instance, Recorder], Awaitable[None]]


def play(scene: Scene, restart: RestartPolicy = RestartPolicy(), stop: StopPolicy = StopPolicy()) -> None:
    async def main() -> None:
        effects, fleet = Recorder(), Fleet()
        fleet.add(App(AppSpec("app", Command(("/bin/true",), "/"), restart=restart, stop=stop), 0.0))
        supervisor = Supervisor(effects)
        async with asyncio.timeout(LIMIT):
            await scene(supervisor, fleet.by_id[0], effects)
        supervisor.forget(fleet.by_id[0])

    asyncio.run(main())


def test_commands_and_facts_become_effects() -> None:
    async def scene(supervisor: Supervisor, instance: Instance, effects: Recorder) -> None:
        supervisor.apply(instance, lc.Start())
        supervisor.apply(instance, lc.Spawned(1, 4711))
        assert instance.machine.pid == 4711
        supervisor.apply(instance, lc.Restart())
        supervisor.apply(instance, lc.Exited(1, 0))
        supervisor.apply(instance, lc.Spawned(2, 4712))
        supervisor.apply(instance, lc.Stop())
        supervisor.apply(instance, lc.Exited(2, 0))
        assert effects.done == [("spawn", 1), ("terminate group", 1), ("spawn", 2), ("terminate group", 2)]
        assert [phase.value for phase in effects.phases] == [
            "starting", "online", "stopping", "starting", "online", "stopping", "stopped",
        ]  # fmt: skip

    play(scene)


def test_what_cannot_happen_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(supervisor: Supervisor, instance: Instance, effects: Recorder) -> None:
        supervisor.apply(instance, lc.Start())
        supervisor.apply(instance, lc.Spawned(1, 4711))
        before = instance.machine
        supervisor.apply(instance, lc.Gone(1))
        assert instance.machine is before

    play(scene)
    assert "app[0]: internal error: " in caplog.text


def test_a_deadline_that_passes_is_an_event() -> None:
    async def scene(supervisor: Supervisor, instance: Instance, effects: Recorder) -> None:
        supervisor.apply(instance, lc.Start())
        supervisor.apply(instance, lc.Spawned(1, 4711))
        supervisor.apply(instance, lc.Stop())
        await supervisor.until(instance, lambda machine: machine.phase is lc.Phase.KILLING)
        assert effects.done[-1] == ("kill", 1)

    play(scene, stop=StopPolicy(kill_timeout=0.01))


def test_a_restart_after_a_delay_comes_by_itself() -> None:
    async def scene(supervisor: Supervisor, instance: Instance, effects: Recorder) -> None:
        supervisor.apply(instance, lc.Start())
        supervisor.apply(instance, lc.Spawned(1, 4711))
        supervisor.apply(instance, lc.Exited(1, 1))
        assert instance.machine.phase is lc.Phase.BACKOFF
        await supervisor.until(instance, lambda machine: machine.run == 2)
        assert effects.done == [("spawn", 1), ("spawn", 2)]

    play(scene, restart=RestartPolicy(restart_delay=0.01))


def test_only_the_latest_deadline_counts() -> None:
    async def scene(supervisor: Supervisor, instance: Instance, effects: Recorder) -> None:
        supervisor.apply(instance, lc.Start())
        first = instance.timer
        assert first is not None
        supervisor.apply(instance, lc.Spawned(1, 4711))
        assert first.cancelled()
        during_the_run = instance.timer
        assert during_the_run is None  # nothing limits it
        supervisor.apply(instance, lc.Stop())
        timer = instance.timer
        assert timer is not None
        supervisor.forget(instance)
        supervisor.forget(instance)
        assert timer.cancelled()

    play(scene)


def test_everybody_who_waits_sees_each_change() -> None:
    async def scene(supervisor: Supervisor, instance: Instance, effects: Recorder) -> None:
        seen: list[str] = []

        async def wait_for(phase: lc.Phase) -> None:
            seen.append((await supervisor.until(instance, lambda machine: machine.phase is phase)).phase.value)

        waiting = [asyncio.create_task(wait_for(phase)) for phase in (lc.Phase.ONLINE, lc.Phase.STARTING)]
        given_up = asyncio.create_task(wait_for(lc.Phase.ERRORED))
        await turn()  # they wait now
        given_up.cancel()
        supervisor.apply(instance, lc.Start())
        await waiting[1]
        supervisor.apply(instance, lc.Spawned(1, 1))
        await waiting[0]
        assert seen == ["starting", "online"]
        assert (await supervisor.until(instance, lambda machine: machine.pid == 1)).pid == 1  # it is so already

    play(scene)

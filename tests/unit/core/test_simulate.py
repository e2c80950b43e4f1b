from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest

from pmx.core import simulate as sim
from pmx.core.lifecycle import (
    Changed,
    Exited,
    Gone,
    Kill,
    Machine,
    Phase,
    Policy,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Terminate,
    Wanted,
    Whom,
)
from pmx.core.simulate import Exec, Life, Process, Program, World
from pmx.core.spec import RestartPolicy, StopPolicy

POLICY = Policy(RestartPolicy(max_restarts=2, backoff_jitter=0.0), StopPolicy(kill_timeout=10.0))
FIRST = sim.begin(Machine(POLICY), now=100.0)
STARTED = sim.command(FIRST, Start())
EXECUTED = sim.execs(STARTED)
UP = sim.hears(EXECUTED)
LEFT = sim.exits(UP, 1, leftover=True)


def phases(world: World, program: Program, until: float = inf) -> list[Phase]:
    """The phases that are entered, `world`'s last actions included."""
    worlds = [world, *sim.play(world, program, until)]
    return [action.new for each in worlds for action in each.done if isinstance(action, Changed)]


def last(world: World, program: Program, until: float = inf) -> World:
    for following in sim.play(world, program, until):
        world = following
    return world


# ── moves ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_at_first_there_is_nothing() -> None:
    assert (FIRST.processes, FIRST.told, FIRST.ledger, FIRST.alive) == ((), (), (), None)
    assert FIRST.saved == FIRST.machine


def test_spawn_makes_a_process_whose_exec_is_open() -> None:
    assert STARTED.alive == Process(1)
    assert STARTED.done[-1] == Spawn(1)
    assert STARTED.told == ()


def test_what_the_kernel_does_is_told_in_order_and_heard_when_the_caller_says() -> None:
    world = sim.clears(sim.exits(EXECUTED, 1, leftover=True))
    assert world.told == (Spawned(1, 1001), Exited(1, 1, "", True), Gone(1))
    assert world.machine.phase is Phase.STARTING
    for phase in (Phase.ONLINE, Phase.CLEANING, Phase.BACKOFF):
        world = sim.hears(world)
        assert world.machine.phase is phase
    assert world.told == ()


def test_a_spawn_that_fails_leaves_no_trace() -> None:
    world = sim.fails(STARTED, "no such file")
    assert (world.processes, world.ledger, world.told) == ((), (), (SpawnFailed(1, "no such file"),))


@pytest.mark.parametrize(
    ("move", "world"),
    [
        (sim.execs, FIRST),
        (sim.execs, UP),
        (sim.fails, UP),
        (sim.exits, STARTED),
        (sim.exits, LEFT),
        (sim.clears, UP),
        (sim.hears, UP),
    ],
)
def test_a_move_that_cannot_be_made_is_the_callers_mistake(move: Callable[[World], World], world: World) -> None:
    with pytest.raises(ValueError, match=r"no process is|not enough values"):
        move(world)


def test_time_passes_only_when_it_is_told_to_and_never_backwards() -> None:
    assert sim.waits(UP, 5.0).now == 105.0
    assert sim.waits(UP, -5.0).now == 100.0
    assert sim.elapses(STARTED).now == 130.0
    assert sim.elapses(sim.waits(STARTED, 99.0)).now == 199.0
    assert sim.elapses(UP) == replace(UP, done=())


@pytest.mark.parametrize(
    ("world", "whom", "asked"),
    [
        (UP, Whom.GROUP, True),
        (UP, Whom.ALL, True),
        (UP, Whom.STRAYS, False),
        (LEFT, Whom.GROUP, False),
        (LEFT, Whom.ALL, True),
        (LEFT, Whom.STRAYS, True),
    ],
)
def test_a_signal_reaches_whom_it_is_for(world: World, whom: Whom, asked: bool) -> None:
    (process,) = sim._perform(world, (Terminate(1, whom),)).processes
    assert (process.asked, process.killed) == (asked, False)


def test_sigkill_reaches_everything_of_its_run_only() -> None:
    for world in (STARTED, UP, LEFT):
        assert sim._perform(world, (Kill(1),)).processes[0].killed
        assert not sim._perform(world, (Kill(2),)).processes[0].killed


def test_what_outlives_the_main_process_has_not_had_its_signals() -> None:
    asked = sim.command(UP, Stop())
    assert asked.processes[0].asked
    assert sim.exits(asked, 0, leftover=True).processes == (Process(1, Life.LEFTOVER, 100.0),)


# ── the ledger and the snapshot ─────────────────────────────────────────────────────────────────────────────────


def test_an_end_is_kept_until_it_was_heard_and_saved() -> None:
    ended = sim.exits(UP, 1)
    assert ended.ledger == (Exited(1, 1),)
    assert sim.saves(ended).ledger == ended.ledger
    heard = sim.hears(ended)
    assert heard.ledger == ended.ledger
    assert sim.saves(heard, acknowledged=False).ledger == ended.ledger
    assert sim.saves(heard).ledger == ()


def test_an_end_with_leftovers_is_kept_until_they_are_gone() -> None:
    heard = sim.hears(LEFT)
    assert sim.saves(heard).ledger == (Exited(1, 1, "", True),)
    gone = sim.clears(heard)
    assert sim.saves(gone).ledger == (Exited(1, 1),)
    assert sim.saves(sim.hears(gone)).ledger == ()


def test_a_crash_forgets_what_was_not_saved_and_what_was_on_its_way() -> None:
    crashed = sim.crashes(sim.saves(EXECUTED))
    assert (crashed.machine.phase, crashed.machine.pid) == (Phase.ONLINE, 1001)  # the keeper says so
    assert crashed.told == ()
    forgotten = sim.crashes(UP)
    assert forgotten.machine.wanted is Wanted.DOWN  # nothing was ever saved
    assert forgotten.machine.phase is Phase.STOPPING


def test_after_a_crash_every_end_of_the_ledger_is_told_again() -> None:
    crashed = sim.crashes(sim.hears(sim.exits(sim.saves(UP), 1)))
    assert crashed.told == (Exited(1, 1),)
    assert crashed.machine.phase is Phase.ONLINE
    assert sim.hears(crashed).machine.phase is Phase.BACKOFF


def test_orders_may_be_lost_in_a_crash() -> None:
    assert sim.crashes(sim.saves(STARTED)).processes == (Process(1),)
    assert sim.crashes(sim.saves(STARTED), orders_lost=True).processes == ()
    stopping = sim.saves(sim.command(UP, Stop()))
    assert sim.crashes(stopping).processes[0].asked
    assert not sim.crashes(stopping, orders_lost=True).processes[0].asked


# ── a fair course ───────────────────────────────────────────────────────────────────────────────────────────────

CRASH_LOOP = [Phase.STARTING, Phase.ONLINE, Phase.BACKOFF] * 2 + [Phase.STARTING, Phase.ONLINE, Phase.ERRORED]


@pytest.mark.parametrize(
    ("program", "entered"),
    [
        (Program(), [Phase.STARTING, Phase.ONLINE]),
        (Program(lifetime=0.0, code=1), CRASH_LOOP),
        (Program(Exec.FAILS), [Phase.STARTING, Phase.BACKOFF] * 2 + [Phase.STARTING, Phase.ERRORED]),
        (
            Program(Exec.HANGS),
            [Phase.STARTING, Phase.CLEANING, Phase.BACKOFF] * 2 + [Phase.STARTING, Phase.CLEANING, Phase.ERRORED],
        ),
    ],
)
def test_a_start(program: Program, entered: list[Phase]) -> None:
    assert phases(STARTED, program) == entered


@pytest.mark.parametrize(
    ("program", "entered", "seconds"),
    [
        (Program(), [Phase.STOPPING, Phase.STOPPED], 0),
        (Program(leaves=True), [Phase.STOPPING, Phase.STOPPED], 0),
        (Program(obeys=False), [Phase.STOPPING, Phase.KILLING, Phase.STOPPED], 10),
        (Program(obeys=False, leaves=True), [Phase.STOPPING, Phase.KILLING, Phase.STOPPED], 10),
        (Program(lifetime=3.0, obeys=False), [Phase.STOPPING, Phase.STOPPED], 3),
    ],
)
def test_a_stop(program: Program, entered: list[Phase], seconds: float) -> None:
    stopping = sim.command(UP, Stop())
    assert phases(stopping, program) == entered
    assert last(stopping, program).now == 100 + seconds


def test_leftovers_that_ignore_their_signal_are_killed_before_the_next_run() -> None:
    program = Program(lifetime=5.0, code=1, obeys=False, leaves=True)
    entered = [Phase.CLEANING, Phase.STARTING, Phase.ONLINE]
    assert phases(UP, program, until=118.0)[-3:] == entered
    assert last(UP, program, until=118.0).now == 115.0


def test_until_is_a_limit_in_time() -> None:
    endless = Program(lifetime=2.0, code=1)
    world = last(STARTED, endless, until=1000.0)
    assert 980 < world.now <= 1000
    assert world.machine.restarts > 40

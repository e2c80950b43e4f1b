"""What must hold for every program, every kernel and every schedule.

`explore` is a breadth-first search over the moves of `core.simulate`. Two worlds count as one when they differ only
in clock readings and in how many runs there have been; with that the search closes, so it is a proof and not a
sample. Its bounds: a back-off streak counts up to 2, and the snapshot lags behind by at most two ends that are not
acknowledged. Random policies, and random times, are for Hypothesis below.

Laws are functions that raise AssertionError: test_mutations.py runs them against broken copies of the lifecycle.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pmx.core import simulate as sim
from pmx.core.lifecycle import (
    KILL_RETRY,
    RESTING,
    SPAWN_TIMEOUT,
    Changed,
    Elapsed,
    Event,
    Exited,
    Gone,
    Impossible,
    Kill,
    Machine,
    Phase,
    Policy,
    Restart,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Terminate,
    Wanted,
    step,
)
from pmx.core.simulate import Exec, Life, Program, World
from pmx.core.spec import RestartPolicy, StopPolicy

PASSING = {Phase.STARTING, Phase.STOPPING, Phase.KILLING, Phase.CLEANING, Phase.BACKOFF}
IDLE = RESTING | {Phase.BACKOFF}
UP_ONLY = set(Phase) - {Phase.STOPPED, Phase.STOPPING, Phase.KILLING}
COMMANDS = (Start(), Stop(), Restart())

SMALL = Policy(
    RestartPolicy(max_restarts=2, min_uptime=1.0, reset_after=4.0, stop_exit_codes=(0,)), StopPolicy(kill_timeout=2.0)
)
POLICIES = {
    "limit of two": SMALL,
    "no limit": replace(SMALL, restart=replace(SMALL.restart, max_restarts=-1)),
    "no restart": replace(SMALL, restart=replace(SMALL.restart, autorestart=False)),
    "fixed delay": replace(SMALL, restart=replace(SMALL.restart, restart_delay=3.0, max_restarts=1)),
}

# ── laws ────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_world(world: World) -> None:
    """What holds between any two moves."""
    m = world.machine
    assert len(world.processes) <= 1, "two processes of one instance"
    assert (m.deadline is not None) == (m.phase in PASSING), "what must not last has a deadline, and nothing else has"
    assert m.pid is not None or m.phase is not Phase.ONLINE, "online without a pid"
    assert m.pid is None or m.phase not in IDLE | {Phase.STARTING}, "a pid without a process"
    assert m.wanted is Wanted.UP or m.phase not in UP_ONLY, "down is wanted, and nothing is done for it"
    assert m.wanted is Wanted.DOWN or m.phase is not Phase.STOPPED, "stopped, though up is wanted"
    assert not (m.phase in IDLE and world.processes), "at rest beside a process"
    assert world.told or (m.phase in IDLE) == (not world.processes), "everything is told, and not understood"
    assert all(process.run <= m.run for process in world.processes), "a process of the future"


def check_move(before: World, after: World) -> None:
    """What holds of any move but a crash: `before` it and `after` it."""
    assert after.machine.run >= before.machine.run, "the run number went back"
    check_history(before.machine, after)
    known = {end.run for end in before.ledger} | {process.run for process in before.processes}
    spawned = [action.run for action in after.done if isinstance(action, Spawn)]
    assert not known & set(spawned), "a run number was given twice"
    assert len(spawned) <= 1


def check_history(old: Machine, after: World) -> None:
    """The Changed actions lead from `old` to the present without a gap, and every action is about the present run."""
    phase, cause = old.phase, None
    for action in after.done:
        assert action.run == after.machine.run or isinstance(action, Changed)
        if isinstance(action, Changed):
            assert action.old is phase, f"a gap in the history: {phase} became {action.old}"
            phase, cause = action.new, action.cause
    assert phase is after.machine.phase, f"{phase} became {after.machine.phase}, and nobody was told"
    assert cause is None or cause == after.machine.shown


def check_command(before: World, event: Event, after: World) -> None:
    """The last word wins, is heard at once, and is not said louder by saying it twice."""
    m = after.machine
    assert m.wanted is (Wanted.DOWN if isinstance(event, Stop) else Wanted.UP)
    assert not any(isinstance(action, Kill) for action in after.done), "a command kills"
    if isinstance(event, Stop) and before.machine.pid and before.machine.phase is Phase.ONLINE:
        assert sum(isinstance(action, Terminate) for action in after.done) == 1, "nobody was asked to end"
    if not isinstance(event, Restart):
        again = sim.command(after, event)
        assert (again.machine, again.done) == (m, ()), f"{event} twice is not {event}"
    if m.wanted is Wanted.UP:
        assert m.phase not in IDLE, "up is wanted, and nothing is done for it"


def check_crash(before: World, after: World) -> None:
    """The new daemon knows all that the keeper holds: living processes are adopted, and no number is given again."""
    check_history(before.saved, after)
    assert after.machine.run >= max((end.run for end in before.ledger), default=before.saved.run)
    held = {process.run for process in after.processes} & {process.run for process in before.processes}
    for process in after.processes:
        if process.run in held and process.life is Life.LIVING:
            assert (after.machine.run, after.machine.pid) == (process.run, process.pid), "not adopted"


def check_total(m: Machine, now: float) -> None:
    """Any event, possible or not, is answered or Impossible; stale facts and early timers change nothing."""
    late = now if m.deadline is None else max(now, m.deadline)
    for event in (*COMMANDS, *facts(m.run)):
        attempt(m, event, late)
    for run in (m.run - 1, m.run + 1):
        for event in facts(run):
            assert step(m, event, late) == (m, ()), f"{event} is about another run"
    if m.deadline is None:
        assert step(m, Elapsed(), now) == (m, ())
    else:
        assert step(m, Elapsed(), m.deadline - 0.001) == (m, ())
        assert step(m, Elapsed(), m.deadline)[0] != m, "the deadline passes, and nothing is done"


def attempt(m: Machine, event: Event, now: float) -> None:
    try:
        step(m, event, now)
    except Impossible as error:
        assert str(error).startswith("internal error: ")


def facts(run: int) -> tuple[Event, ...]:
    ends = (Exited(run, 0), Exited(run, 1, "", True), Exited(run, None, "SIGKILL"), Exited(run, None, "", True))
    return (Spawned(run, 77), SpawnFailed(run, "no such file"), *ends, Gone(run))


# ── what must happen in the end ─────────────────────────────────────────────────────────────────────────────────

CRASHES = Program(lifetime=0.0, code=1)
PROGRAMS = {
    "crashes at once": CRASHES,
    "crashes, leaves stubborn children": replace(CRASHES, leaves=True, obeys=False),
    "cannot be executed": Program(Exec.FAILS),
    "hangs in exec": Program(Exec.HANGS),
    "runs for ever": Program(),
    "runs for ever, ignores the signal": Program(obeys=False),
    "ignores the signal, leaves children": Program(obeys=False, leaves=True),
    "is done": Program(lifetime=2.0),
}
ENDLESS = {Program(), Program(obeys=False), Program(obeys=False, leaves=True)}
STEPS = 120


def play(world: World, program: Program) -> World:
    """The state of rest that `world` comes to, or the world after STEPS moves; the laws hold on the way."""
    for _, following in zip(range(STEPS), sim.play(world, program), strict=False):
        check_world(following)
        check_move(world, following)
        world = following
    return world


def check_stops(world: World, program: Program) -> None:
    """A stop ends in STOPPED, without a process, within the time that a stubborn program may take."""
    stop = world.machine.policy.stop
    stopped = play(sim.command(world, Stop()), program)
    assert stopped.machine.phase is Phase.STOPPED, f"{stopped.machine.phase} after a stop"
    assert not stopped.processes
    assert stopped.now <= world.now + 2 * stop.kill_timeout + KILL_RETRY + 0.001, "a stop takes too long"


def check_runs(world: World, program: Program) -> None:
    """A start ends with the program running, or at rest as COMPLETED or ERRORED; a crash loop with a limit ends."""
    policy = world.machine.policy.restart
    ended = play(sim.command(world, Start()), program)
    if program in ENDLESS:
        assert ended.machine.phase is Phase.ONLINE
    elif program.lifetime >= policy.min_uptime and program.exec is Exec.WORKS:
        assert ended.machine.phase is Phase.COMPLETED
    elif policy.max_restarts < 0 and policy.autorestart:
        assert ended.machine.phase not in RESTING, "gave up, though there is no limit"
    else:
        assert ended.machine.phase is Phase.ERRORED, f"{ended.machine.phase}, and no end of restarts"


# ── the search ──────────────────────────────────────────────────────────────────────────────────────────────────


def moves(world: World, crashing: bool) -> Iterator[tuple[str, World]]:
    """Every next world, and what leads to it."""
    for event in COMMANDS:
        after = sim.command(world, event)
        check_command(world, event, after)
        yield str(event), after
    if world.told:
        yield f"hears {world.told[0]}", sim.hears(world)
    if world.machine.deadline is not None:
        yield "elapses", sim.elapses(world)
    yield from kernel_moves(world, ((1, False), (1, True)) if crashing else ((0, False), (1, False), (1, True)))
    if not crashing:
        yield from ages(world)
    else:
        for acknowledged in (True, False):
            yield f"saves, acknowledged={acknowledged}", sim.saves(world, acknowledged)
        for orders_lost in (True, False):
            after = sim.crashes(world, orders_lost)
            check_crash(world, after)
            yield f"crashes, orders_lost={orders_lost}", after


def ages(world: World) -> Iterator[tuple[str, World]]:
    m = world.machine
    if m.phase is Phase.ONLINE:
        for age in (m.policy.restart.min_uptime, m.policy.restart.reset_after):
            if world.now < m.since + age:
                yield f"is {age} s old", sim.waits(world, m.since + age - world.now)


def kernel_moves(world: World, ends: tuple[tuple[int, bool], ...]) -> Iterator[tuple[str, World]]:
    match world.alive.life if world.alive else None:
        case Life.EXECUTING:
            yield "execs", sim.execs(world)
            yield "fails", sim.fails(world)
        case Life.LIVING if len(world.ledger) < 2:
            for code, leftover in ends:
                yield f"exits {code}, leftover={leftover}", sim.exits(world, code, "", leftover)
        case Life.LEFTOVER:
            yield "clears", sim.clears(world)


def shape(m: Machine, now: float) -> tuple[object, ...]:
    """What of `m` matters for what may follow."""
    pid = None if m.pid is None else min(m.pid, 1)
    policy = m.policy.restart
    if not policy.autorestart or policy.restart_delay > 0 > policy.max_restarts:
        return m.wanted, m.phase, pid  # such a policy looks at nothing that was
    age = (now >= m.since + policy.min_uptime) + (now >= m.since + policy.reset_after) if m.phase is Phase.ONLINE else 0
    ended = (m.ended.code, m.ended.uptime >= policy.min_uptime) if m.ended and m.phase is Phase.CLEANING else None
    return m.wanted, m.phase, pid, len(m.record.crashes), min(m.record.streak, 2), age, ended


def key(world: World, crashing: bool) -> tuple[object, ...]:
    """Equal for worlds that have the same future. Of run numbers only the order matters: a new one is the highest."""
    m, saved, ends = world.machine, world.saved, world.ledger
    about = [getattr(fact, "run", 0) for fact in world.told]
    runs = [m.run, *about, *(process.run for process in world.processes)]
    if crashing:
        runs += [saved.run, *(end.run for end in ends)]
    rank = {run: number for number, run in enumerate(sorted(set(runs)))}
    told = tuple(
        (type(fact), rank[run], getattr(fact, "leftover", None), run == m.run and getattr(fact, "code", None))
        for fact, run in zip(world.told, about, strict=True)
    )
    alive = tuple((rank[process.run], process.life) for process in world.processes)
    here = (shape(m, world.now), rank[m.run], alive, told)
    if not crashing:
        return here
    ledger = tuple((rank[end.run], end.leftover, end.run in world.over) for end in ends)
    return (*here, shape(saved, world.now), rank[saved.run], ledger)


def explore(policy: Policy, crashing: bool, bound: int = 100_000) -> tuple[int, dict[tuple[object, ...], World]]:
    """Check every world that can be reached. Returns how many there are, and one for each present that they have."""
    first = sim.begin(Machine(policy))
    seen, queue, presents = {key(first, crashing)}, deque([(first, ("begin",))]), {}
    while queue:
        world, path = queue.popleft()
        presents.setdefault(key(world, False), world)
        try:
            for name, after in moves(world, crashing):
                path_here = (*path, name)
                if not name.startswith("crashes"):
                    check_move(world, after)
                check_world(after)
                found = key(after, crashing)
                if found not in seen:
                    seen.add(found)
                    queue.append((after, path_here))
        except (AssertionError, Impossible) as error:
            raise AssertionError(f"{error}\n  after {'; '.join((*path, '...'))}\n  in {world}") from error
        assert len(seen) <= bound, "the search does not close"
    return len(seen), presents

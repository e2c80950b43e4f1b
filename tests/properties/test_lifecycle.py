"""What must hold for every program, every kernel and every schedule.

`explore` is a breadth-first search over the moves of `core.simulate`. Two worlds count as one when they differ only
in clock readings and in how many runs there have been; with that the search closes, so it is a proof and not a
sample. Its bounds: a back-off streak counts up to 2, and the snapshot lags behind by at most two ends that are not
acknowledged. Random policies, and random times, are for Hypothesis below.

Laws are functions that raise AssertionError: test_mutations.py runs them against broken copies of the lifecycle.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pmx.core import simulate as sim
from pmx.core.lifecycle import (
    KILL_RETRY,
    RESTING,
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
from pmx.core.restart import Exit
from pmx.core.simulate import Exec, Life, Program, World
from pmx.core.spec import RestartPolicy, StopPolicy

PASSING = {Phase.STARTING, Phase.STOPPING, Phase.KILLING, Phase.CLEANING, Phase.BACKOFF}
IDLE = RESTING | {Phase.BACKOFF}
UP_ONLY = set(Phase) - {Phase.STOPPED, Phase.STOPPING, Phase.KILLING}
COMMANDS = (Start(), Stop(), Restart())

SMALL = Policy(
    RestartPolicy(max_restarts=2, min_uptime=1.0, reset_after=4.0, stop_exit_codes=(0,)), StopPolicy(kill_timeout=2.0)
)


def restarting(**fields: Any) -> Policy:
    """SMALL with other rules of restarting."""
    return replace(SMALL, restart=replace(SMALL.restart, **fields))


POLICIES = {
    "limit of two": SMALL,
    "no restart": restarting(autorestart=False),
    "fixed delay, longer than min_uptime": restarting(restart_delay=3.0, max_restarts=1),
}
FORGETFUL = restarting(restart_delay=1.0, max_restarts=-1)
"""Nothing of the past decides what follows, which keeps the search with daemon crashes small."""

LAG = 2
"""So many ends may be told and not acknowledged."""

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
    newest = max((end.run for end in before.ledger), default=before.saved.run)
    assert after.machine.run >= newest, "an end is overlooked"
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
        assert step(m, Elapsed(), m.deadline - 0.001) == (m, ()), "a timer fires early"
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
STUBBORN = Program(obeys=False, leaves=True)
PROGRAMS = {
    "crashes at once": CRASHES,
    "crashes at once, and its children have to be killed": replace(CRASHES, obeys=False, leaves=True),
    "cannot be executed": replace(CRASHES, exec=Exec.FAILS),
    "hangs in exec": replace(CRASHES, exec=Exec.HANGS),
    "runs for ever": Program(leaves=True),
    "runs for ever, and has to be killed": STUBBORN,
    "is done after a while": Program(lifetime=2.0),
}
LATE = 0.001


def play(world: World, program: Program, moves: int = 150, until: float = inf) -> World:
    """The state of rest that `world` comes to, or the world after so many moves; the laws hold on the way."""
    for _, following in zip(range(moves), sim.play(world, program, until), strict=False):
        check_world(following)
        check_move(world, following)
        world = following
    return world


def check_stops(world: World, program: Program) -> None:
    """A stop ends in STOPPED, without a process, within the time that the most stubborn program may take."""
    stopped = play(sim.command(world, Stop()), program)
    assert stopped.machine.phase is Phase.STOPPED, f"{stopped.machine.phase} after a stop"
    assert not stopped.processes
    limit = 2 * world.machine.policy.stop.kill_timeout + KILL_RETRY
    assert stopped.now <= world.now + limit + LATE, f"a stop takes {stopped.now - world.now} s"


def check_runs(world: World, program: Program) -> None:
    """A start ends with the program running, or at rest as COMPLETED or ERRORED: no crash loop outlives its limit."""
    policy = world.machine.policy.restart
    ended = play(sim.command(world, Start()), program).machine
    last = ended.ended or Exit()
    if ended.phase is Phase.ONLINE:
        assert program.exec is Exec.WORKS, "online without exec"
        assert program.lifetime == inf, "no end of restarts"
    elif ended.phase is Phase.COMPLETED:
        assert last.code in policy.stop_exit_codes or not (policy.autorestart or last.code)
    else:
        assert ended.phase is Phase.ERRORED, f"{ended.phase}, and no end of restarts"
        assert not policy.autorestart or last.uptime < policy.min_uptime, f"errored after {last.uptime} s"


def check_limit(policy: Policy, program: Program, sound_runs: int = 0) -> None:
    """After so many sound runs, none long enough to reset anything, a crash loop has exactly max_restarts restarts."""
    limit = policy.restart.max_restarts
    world = sim.command(sim.begin(Machine(policy)), Start())
    sound = replace(CRASHES, lifetime=policy.restart.min_uptime + LATE)  # clocks are floats: equal is not long enough
    while world.machine.restarts < sound_runs:
        assert world.machine.phase not in RESTING, "gave up, though no run was a crash"
        world = play(world, sound, 1)
    ended = play(world, program, 12 * (limit + 2)).machine
    assert ended.phase is Phase.ERRORED, f"{ended.phase} after {ended.restarts} restarts, {limit} are allowed"
    assert ended.restarts == sound_runs + limit, f"{ended.restarts} restarts, {limit} are allowed"


def check_no_limit(policy: Policy, program: Program) -> None:
    """What is not limited, or does not crash, is restarted for ever."""
    ended = play(sim.command(sim.begin(Machine(policy)), Start()), program, 400).machine
    assert ended.phase not in RESTING, f"{ended.phase} ({ended.shown}) after {ended.restarts} restarts"
    assert ended.restarts > 30, f"{ended.phase} for ever"


def check_polite(leaves: bool) -> None:
    """What obeys its stop signal is never killed, and is not waited for."""
    up = play(sim.command(sim.begin(Machine(SMALL)), Start()), Program())
    polite = Program(leaves=leaves)
    for end in (sim.command(up, Stop()), sim.command(up, Restart()), sim.exits(up, 1, "", leaves)):
        world = end
        for world in sim.play(end, polite, up.now + 1):
            assert not any(isinstance(action, Kill) for action in world.done), "killed, though it would have obeyed"
        phase = Phase.STOPPED if world.machine.wanted is Wanted.DOWN else Phase.ONLINE
        assert world.machine.phase is phase, f"still {world.machine.phase}, though it obeys"


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
        for acknowledged in {True, not world.over}:
            yield f"saves, acknowledged={acknowledged}", sim.saves(world, acknowledged)
        for orders_lost in {False, bool(world.processes)}:
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
        case Life.LIVING if len(world.ledger) < LAG:
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
    seen = {key(first, crashing)}
    queue: deque[tuple[World, tuple[str, ...]]] = deque([(first, ("begin",))])
    presents: dict[tuple[object, ...], World] = {}
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


# ── the tests ───────────────────────────────────────────────────────────────────────────────────────────────────


def check_all(policy: Policy) -> int:
    """The whole of a search without daemon crashes: no move breaks a law, and every world comes to a good end."""
    count, presents = explore(policy, crashing=False)
    for world in presents.values():
        check_total(world.machine, world.now)
        for program in (Program(), STUBBORN, Program(Exec.HANGS)):
            check_stops(world, program)
        for program in PROGRAMS.values():
            check_runs(world, program)
    return count


def check_all_crashes(policy: Policy) -> int:
    """The whole of a search in which the daemon may crash between any two moves."""
    count, presents = explore(policy, crashing=True)
    for world in presents.values():
        check_total(world.machine, world.now)
        check_stops(world, STUBBORN)
    return count


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_no_order_of_events_breaks_a_law(policy: Policy) -> None:
    assert 50 < check_all(policy) < 1000


def test_no_daemon_crash_breaks_a_law() -> None:
    assert 10_000 < check_all_crashes(FORGETFUL) < 20_000


@pytest.mark.parametrize("leaves", [False, True])
def test_what_obeys_is_not_killed(leaves: bool) -> None:
    check_polite(leaves)


@pytest.mark.parametrize("program", [CRASHES, PROGRAMS["hangs in exec"], PROGRAMS["cannot be executed"]])
@pytest.mark.parametrize("sound_runs", [0, 30])
def test_a_streak_of_long_delays_is_no_way_past_the_limit(program: Program, sound_runs: int) -> None:
    check_limit(Policy(), program, sound_runs)
    check_limit(restarting(max_restarts=3, restart_delay=60.0), program, sound_runs)


def test_pm2s_hole() -> None:
    """pm2.md section 0: crashes stop counting min_uptime * max_restarts after creation, or by a long restart_delay."""
    policy = Policy(RestartPolicy(max_restarts=3))
    check_limit(policy, replace(CRASHES, lifetime=0.9), sound_runs=16)
    check_limit(restarting(max_restarts=3, restart_delay=1.0), CRASHES)


delays = st.sampled_from([0.0, 0.001, 0.1, 1.0, 3.0, 20.0, 600.0])
policies = st.builds(
    RestartPolicy,
    min_uptime=st.sampled_from([0.05, 1.0, 5.0, 60.0]),
    max_restarts=st.integers(0, 6),
    restart_delay=delays,
    backoff_initial=delays,
    backoff_factor=st.sampled_from([1.0, 1.5, 2.0, 100.0]),
    backoff_max=delays,
    backoff_jitter=st.sampled_from([0.0, 0.1, 1.0]),
    reset_after=st.sampled_from([0.5, 10.0, 30.0]),
).map(lambda restart: Policy(restart, StopPolicy(kill_timeout=30.0)))
restless = st.builds(
    Program, st.sampled_from(Exec), st.just(0.0), st.integers(0, 2), obeys=st.booleans(), leaves=st.booleans()
)


@settings(deadline=None, max_examples=150)
@given(policies, restless, st.sampled_from([0.0, 0.5, 0.99]), st.integers(0, 5))
def test_a_crash_loop_has_exactly_max_restarts_restarts(
    policy: Policy, program: Program, share: float, sound_runs: int
) -> None:
    if policy.restart.reset_after <= policy.restart.min_uptime:
        sound_runs = 0  # there are no sound runs that reset nothing
    check_limit(policy, replace(program, lifetime=share * policy.restart.min_uptime), sound_runs)


@settings(deadline=None, max_examples=20)
@given(policies, restless)
def test_without_a_limit_nothing_gives_up(policy: Policy, program: Program) -> None:
    check_no_limit(replace(policy, restart=replace(policy.restart, max_restarts=-1)), program)


@settings(deadline=None, max_examples=20)
@given(policies, st.sampled_from([1.01, 1.5, 1000.0]), st.booleans())
def test_sound_runs_are_never_limited(policy: Policy, factor: float, leaves: bool) -> None:
    check_no_limit(policy, Program(lifetime=factor * policy.restart.min_uptime, code=1, leaves=leaves))


class Schedule(RuleBasedStateMachine):
    """Any policy, any program, any order, and clocks that stand still at nothing."""

    @initialize(policy=policies, autorestart=st.booleans(), up=st.booleans())
    def begin(self, policy: Policy, autorestart: bool, up: bool) -> None:
        restart = replace(policy.restart, autorestart=autorestart)
        self.world = sim.begin(Machine(replace(policy, restart=restart)), now=1e6)
        if up:
            self.command(Start())

    def move(self, after: World) -> None:
        check_move(self.world, after)
        check_total(after.machine, after.now)
        self.world = after

    @rule(event=st.sampled_from(COMMANDS))
    def command(self, event: Event) -> None:
        after = sim.command(self.world, event)
        check_command(self.world, event, after)
        self.move(after)

    @precondition(lambda self: self.world.told)
    @rule(many=st.booleans())
    def hears(self, many: bool) -> None:
        for _ in self.world.told if many else self.world.told[:1]:
            self.move(sim.hears(self.world))

    @rule(seconds=st.sampled_from([0.01, 1.0, 40.0]) | st.floats(0, 100))
    def waits(self, seconds: float) -> None:
        self.move(sim.waits(self.world, seconds))

    @precondition(lambda self: self.world.machine.deadline is not None)
    @rule()
    def elapses(self) -> None:
        self.move(sim.elapses(self.world))

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data())
    def the_kernel_moves(self, data: st.DataObject) -> None:
        ends = tuple((code, leftover) for code in (0, 1) for leftover in (False, True))
        possible = list(kernel_moves(self.world, ends))
        if possible:  # a world with many ends that nobody acknowledged waits for the daemon
            self.move(data.draw(st.sampled_from(possible))[1])

    @rule(acknowledged=st.booleans())
    def saves(self, acknowledged: bool) -> None:
        self.world = sim.saves(self.world, acknowledged)

    @rule(orders_lost=st.booleans())
    def crashes(self, orders_lost: bool) -> None:
        after = sim.crashes(self.world, orders_lost)
        check_crash(self.world, after)
        self.world = after

    @invariant()
    def the_laws_hold(self) -> None:
        if hasattr(self, "world"):
            check_world(self.world)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            check_stops(self.world, STUBBORN)
            check_runs(self.world, PROGRAMS["crashes at once, and its children have to be killed"])


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(
    deadline=None, max_examples=100, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)

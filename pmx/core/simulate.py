"""A toy kernel, a toy keeper and a virtual clock around `core.lifecycle`: everything that could happen, at no cost.

Theory of operation
-------------------
A `World` is one instance of a program as nobody ever sees it: whole. It holds what the daemon believes (`machine`),
what is true (`processes`), what was said of it and not yet heard (`told`), and what would survive the daemon: the
snapshot (`saved`) and the ends that nobody has acknowledged (`ledger`).

    command, elapses ──> step ──> Spawn, Terminate, Kill ──> processes ──> execs, fails, exits, clears
        ^                 ^                                                        │
        └── clock         └── hears <── told: Spawned, Exited(leftover), Gone <────┘

Each function is one move, `World -> World`, and a choice is an argument: there is no chance, no clock and no order
but the one that the caller makes. A late fact is one that was not heard yet; a program that ignores its stop signal
is one whose `exits` is not called; exec hangs as long as nobody says `execs`. So a search over the moves is a search
over all programs, all kernels and all schedules. A move that cannot be made now raises ValueError.

The keeper's part is exact where the lifecycle depends on it:

- facts about one run come in the order Spawned, Exited, Gone; a spawn that fails leaves no trace but SpawnFailed;
- a run killed before its exec is decided counts as spawned, and ends at once;
- an end stays in the ledger until it is acknowledged, which is done only by `saves`, after all of it was heard;
- a `crash` loses the facts on their way and, when so chosen, the last orders. The snapshot, as old as the last
  `saves`, meets the keeper's truth in `resume`, and every end of the ledger is told anew.

`play` makes these moves fairly: signals are answered, facts are heard, deadlines are kept. What must happen in the end
is a statement about `play`; what must never happen, about any order of moves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from pmx.core import lifecycle as lc


class Life(StrEnum):
    EXECUTING = "executing"  # forked; whether exec succeeds is open
    LIVING = "living"
    LEFTOVER = "leftover"  # the main process ended, others of its tree did not


@dataclass(frozen=True, slots=True)
class Process:
    """A run that exists. One that is gone is not in the world any more."""

    run: int
    life: Life = Life.EXECUTING
    born: float = inf  # when exec succeeded
    asked: bool = False  # who lives of it now has had the stop signal
    killed: bool = False

    @property
    def pid(self) -> int:
        return 1000 + self.run


@dataclass(frozen=True, slots=True)
class World:
    machine: lc.Machine
    saved: lc.Machine
    now: float = 0.0
    processes: tuple[Process, ...] = ()
    told: tuple[lc.Event, ...] = ()  # facts on their way, oldest first
    ledger: tuple[lc.Exited, ...] = ()  # ends that no daemon has acknowledged
    over: tuple[int, ...] = ()  # runs of which this daemon has heard the last
    done: tuple[lc.Action, ...] = ()  # the actions of the latest move

    @property
    def alive(self) -> Process | None:
        """The process there is. That there are never two is what the searches are for."""
        return self.processes[0] if self.processes else None


def begin(machine: lc.Machine, now: float = 0.0) -> World:
    return World(machine, machine, now)


# ── the daemon ──────────────────────────────────────────────────────────────────────────────────────────────────


def command(world: World, event: lc.Event) -> World:
    """Start, Stop or Restart."""
    machine, actions = lc.step(world.machine, event, world.now)
    return _perform(replace(world, machine=machine), actions)


def hears(world: World) -> World:
    """The oldest fact on its way arrives."""
    event, *rest = world.told
    last = isinstance(event, lc.Gone) or (isinstance(event, lc.Exited) and not event.leftover)
    over = (*world.over, event.run) if isinstance(event, lc.Exited | lc.Gone) and last else world.over
    return command(replace(world, told=tuple(rest), over=over), event)


def elapses(world: World) -> World:
    """The deadline of the machine passes, if it has not, and the timer fires."""
    deadline = world.machine.deadline
    return command(world if deadline is None else waits(world, deadline - world.now), lc.Elapsed())


def waits(world: World, seconds: float) -> World:
    """Time passes, and the daemon is busy with something else."""
    return replace(world, now=world.now + max(0.0, seconds), done=())


def saves(world: World, acknowledged: bool = True) -> World:
    """The snapshot is written, and the keeper told what it may forget; which may be lost."""
    ledger = tuple(end for end in world.ledger if end.run not in world.over) if acknowledged else world.ledger
    return replace(world, saved=world.machine, ledger=ledger, over=() if acknowledged else world.over, done=())


def crashes(world: World, orders_lost: bool = False) -> World:
    """The daemon is killed, and the next one makes of the snapshot and the keeper's truth what it can."""
    processes = world.processes
    if orders_lost:
        there = [process for process in processes if process.life is not Life.EXECUTING]
        processes = tuple(replace(process, asked=False, killed=False) for process in there)
    held = [(p.run, 0 if p.life is Life.EXECUTING else p.pid) for p in processes if p.life is not Life.LEFTOVER]
    ended = any(end.run == world.saved.run for end in world.ledger)
    newest = max((end.run for end in world.ledger), default=0)
    machine, actions = lc.resume(world.saved, held[0] if held else None, ended, world.now, newest)
    return _perform(replace(world, machine=machine, processes=processes, told=world.ledger, over=()), actions)


def _perform(world: World, actions: tuple[lc.Action, ...]) -> World:
    for action in actions:
        match action:
            case lc.Spawn(run):
                world = replace(world, processes=(*world.processes, Process(run)))
            case lc.Terminate(run, whom):
                world = _signal(world, run, whom, kill=False)
            case lc.Kill(run):
                world = _signal(world, run, lc.Whom.ALL, kill=True)
    return replace(world, done=actions)


def _signal(world: World, run: int, whom: lc.Whom, kill: bool) -> World:
    def reached(process: Process) -> Process:
        deaf = lc.Whom.GROUP if process.life is Life.LEFTOVER else lc.Whom.STRAYS
        if process.run != run or whom is deaf:
            return process
        return replace(process, killed=True) if kill else replace(process, asked=True)

    return replace(world, processes=tuple(reached(process) for process in world.processes))


# ── the kernel and the keeper ───────────────────────────────────────────────────────────────────────────────────


def execs(world: World) -> World:
    """Exec succeeds."""
    process = _the(world, Life.EXECUTING)
    return _becomes(world, replace(process, life=Life.LIVING, born=world.now), lc.Spawned(process.run, process.pid))


def fails(world: World, error: str = "cannot run it: no such file (ENOENT)") -> World:
    """Exec fails."""
    return _becomes(world, None, lc.SpawnFailed(_the(world, Life.EXECUTING).run, error))


def exits(world: World, code: int | None = 0, signal: str = "", leftover: bool = False) -> World:
    """The main process ends, by itself or because of a signal; others of its tree may live on."""
    process = _the(world, Life.LIVING)
    end = lc.Exited(process.run, code, signal, leftover)
    rest = replace(process, life=Life.LEFTOVER, asked=False, killed=False) if leftover else None
    return _becomes(replace(world, ledger=(*world.ledger, end)), rest, end)


def clears(world: World) -> World:
    """The last of what was left over ends."""
    run = _the(world, Life.LEFTOVER).run
    ledger = tuple(replace(end, leftover=False) if end.run == run else end for end in world.ledger)
    return _becomes(replace(world, ledger=ledger), None, lc.Gone(run))


def _the(world: World, life: Life) -> Process:
    if world.alive is None or world.alive.life is not life:
        raise ValueError(f"no process is {life}: {world.processes}")
    return world.alive


def _becomes(world: World, process: Process | None, fact: lc.Event) -> World:
    kept = (process, *world.processes[1:]) if process is not None else world.processes[1:]
    return replace(world, processes=kept, told=(*world.told, fact), done=())


# ── a fair course of events ─────────────────────────────────────────────────────────────────────────────────────


class Exec(StrEnum):
    WORKS = "works"
    FAILS = "fails"
    HANGS = "hangs"


@dataclass(frozen=True, slots=True)
class Program:
    """What a program does whenever it is run."""

    exec: Exec = Exec.WORKS
    lifetime: float = inf  # after which it ends by itself
    code: int = 0
    obeys: bool = True  # it, and what it leaves behind, ends at the stop signal; else only at SIGKILL
    leaves: bool = False  # its children outlive it


def play(world: World, program: Program, until: float = inf) -> Iterator[World]:
    """What follows from `world`, move by move, until nothing ever will, or `until` is reached."""
    following = _follows(world, program)
    while following is not None and following.now <= until:
        yield following
        following = _follows(following, program)


def _follows(world: World, program: Program) -> World | None:
    """What happens next: processes are faster than facts, and facts are faster than time."""
    happened = _happens(world, program)
    if happened is not None:
        return happened
    if world.told:
        return hears(world)
    process, deadline = world.alive, world.machine.deadline
    if process is not None and process.life is Life.LIVING and program.lifetime < inf:
        end = process.born + program.lifetime
        if deadline is None or end < deadline:
            return exits(waits(world, end - world.now), program.code, leftover=program.leaves)
    return None if deadline is None else elapses(world)


def _happens(world: World, program: Program) -> World | None:
    """What a process does at this instant."""
    process = world.alive
    if process is None:
        return None
    ends = process.killed or (process.asked and program.obeys)
    match process.life:
        case Life.EXECUTING if process.killed or program.exec is Exec.WORKS:
            return execs(world)
        case Life.EXECUTING:
            return fails(world) if program.exec is Exec.FAILS else None
        case Life.LIVING if process.killed:
            return exits(world, None, "SIGKILL")
        case Life.LIVING:
            return exits(world, program.code, leftover=program.leaves) if ends else None
        case Life.LEFTOVER:
            return clears(world) if ends else None

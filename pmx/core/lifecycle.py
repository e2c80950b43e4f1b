"""One process as a total function: ``step(machine, event, now) -> (machine, actions)``.

Theory of operation
-------------------
A `Machine` is one instance of an application. *Wanted* (up or down) is what people asked for; *phase* is what
is so. "Restart" is therefore not a phase: it is ending the run while `wanted` stays UP, and whoever ends up
without a process while UP is wanted starts the next run. Stop, start and restart in any order and at any moment
only move `wanted`; the last word wins and nothing is ever queued.

A *run* is one attempt to have a process. It gets the next run number when it is asked for, and every fact that
comes back (Spawned, SpawnFailed, Exited, Gone) names the run it is about: a fact about another run is stale and
changes nothing. For one run the keeper says, in this order:

    Spawned(pid)  then  Exited(status, leftover)  then, only if leftover,  Gone
    or SpawnFailed alone.

`leftover` means that other members of its process group, or descendants that left the group, outlived the main
process. They may hold its port or its files, so they are ended before anything else is started:

    STARTING ── Spawned ──> ONLINE ── Exited ──> decide ──> BACKOFF | COMPLETED | ERRORED | next run
        ├─ SpawnFailed ──> decide       └─ leftover ──> CLEANING ── Gone ──> decide
        ├─ deadline ──────────│────────────────────────────^
        └──── Stop, Restart ──┴──> STOPPING ── Exited/Gone ──> STOPPED, or the next run when UP is wanted
                                       └─ deadline ──> KILLING ── Exited/Gone ──> likewise

Time is an argument and a deadline is data: each phase that must not last carries `deadline`, and `Elapsed` is
believed only when it is really over. STARTING has one because exec can hang on a dead network file system; such a
run is killed, cleaned up after, and counts as a crash.

Only `_enter` assigns the phase, and it always says so with a `Changed` action that carries the cause.
An event that cannot happen in a phase raises `Impossible` and changes nothing: the shell logs it as a bug.
"""

from collections.abc import Callable
from dataclasses import replace

from pmx.core.events import (
    RESTING as RESTING,
    Action as Action,
    Changed as Changed,
    Elapsed as Elapsed,
    Event as Event,
    Exited as Exited,
    Gone as Gone,
    Impossible as Impossible,
    Kill as Kill,
    Machine as Machine,
    Phase as Phase,
    Policy as Policy,
    Restart as Restart,
    Spawn as Spawn,
    Spawned as Spawned,
    SpawnFailed as SpawnFailed,
    Start as Start,
    Step as Step,
    Stop as Stop,
    Terminate as Terminate,
    Wanted as Wanted,
    Whom as Whom,
)
from pmx.core.restart import Again, Completed, Exit, GivenUp, Record, decide

SPAWN_TIMEOUT = 30.0
"""Seconds from asking for a process to its exec; beyond it the child is killed."""

KILL_RETRY = 5.0
"""Seconds after which SIGKILL is sent again: a process in uninterruptible sleep dies when it wakes."""


def step(machine: Machine, event: Event, now: float) -> Step:
    """What becomes of `machine`, and what is to be done, in that order. Raises Impossible; never anything else."""
    return _HANDLERS[type(event)](machine, event, now)


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────


def _start(m: Machine, event: Start, now: float) -> Step:
    m = replace(m, wanted=Wanted.UP)
    match m.phase:
        case Phase.STOPPED | Phase.COMPLETED | Phase.ERRORED | Phase.BACKOFF:
            return _spawn(replace(m, record=Record()), now, event.cause)
        case Phase.STARTING | Phase.ONLINE | Phase.CLEANING:
            return m, ()
        case Phase.STOPPING | Phase.KILLING:
            return _because(m, event.cause)


def _stop(m: Machine, event: Stop, now: float) -> Step:
    m = replace(m, wanted=Wanted.DOWN)
    match m.phase:
        case Phase.STOPPED:
            return m, ()
        case Phase.COMPLETED | Phase.ERRORED | Phase.BACKOFF:
            return _enter(m, Phase.STOPPED, now, event.cause)
        case Phase.STARTING | Phase.ONLINE:
            return _end(m, now, event.cause)
        case Phase.CLEANING:
            # The leftovers have had their signal and keep their deadline; only what follows is another matter.
            return _enter(m, Phase.STOPPING, now, event.cause, m.deadline)
        case Phase.STOPPING | Phase.KILLING:
            return _because(m, event.cause)


def _restart(m: Machine, event: Restart, now: float) -> Step:
    m = replace(m, wanted=Wanted.UP, record=Record())
    match m.phase:
        case Phase.STOPPED | Phase.COMPLETED | Phase.ERRORED | Phase.BACKOFF:
            return _again(m, now, event.cause)
        case Phase.STARTING | Phase.ONLINE:
            return _end(m, now, event.cause)
        case Phase.CLEANING:
            return _enter(m, Phase.STOPPING, now, event.cause, m.deadline)
        case Phase.STOPPING | Phase.KILLING:
            return _because(m, event.cause)


# ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _spawned(m: Machine, event: Spawned, now: float) -> Step:
    if event.run != m.run:
        return m, ()
    up = replace(m, pid=event.pid)
    match m.phase:
        case Phase.STARTING:
            return _enter(up, Phase.ONLINE, now, m.shown)
        case Phase.STOPPING if m.pid is None:
            return replace(up, deadline=now + m.policy.stop.kill_timeout), (Terminate(m.run, Whom.GROUP),)
        case Phase.KILLING | Phase.CLEANING if m.pid is None:
            return up, (Kill(m.run),)
        case _:
            raise Impossible(m, event)


def _spawn_failed(m: Machine, event: SpawnFailed, now: float) -> Step:
    if event.run != m.run:
        return m, ()
    failed = replace(m, ended=Exit(error=event.error))
    match m.phase:
        case Phase.STARTING | Phase.CLEANING if m.pid is None:
            return _decide(failed, now)
        case Phase.STOPPING | Phase.KILLING if m.pid is None:
            return _ended(failed, now)
        case _:
            raise Impossible(m, event)


def _exited(m: Machine, event: Exited, now: float) -> Step:
    if event.run != m.run:
        return m, ()
    if m.pid is None:
        return _exited_again(m, event, now)
    uptime = now - m.since if m.phase is Phase.ONLINE else 0.0
    end = Exit(event.code, event.signal, uptime=uptime)
    done = replace(m, pid=None, ended=m.ended if m.phase is Phase.CLEANING else end)
    match m.phase:
        case Phase.ONLINE if event.leftover:
            cause = f"{_words(done)}; ending what it left behind"
            cleaning, changed = _enter(done, Phase.CLEANING, now, cause, now + m.policy.stop.kill_timeout)
            return cleaning, (*changed, Terminate(m.run, Whom.ALL))
        case Phase.STOPPING if event.leftover:
            return done, (Terminate(m.run, Whom.STRAYS),)
        case Phase.KILLING | Phase.CLEANING if event.leftover:
            return done, (Kill(m.run),)
        case Phase.ONLINE | Phase.CLEANING:
            return _decide(done, now)
        case Phase.STOPPING | Phase.KILLING:
            return _ended(done, now)
        case _:
            raise Impossible(m, event)


def _exited_again(m: Machine, event: Exited, now: float) -> Step:
    """A new daemon is told of every end that is not acknowledged, so it may hear twice of one it knows."""
    match m.phase:
        case Phase.CLEANING | Phase.STOPPING | Phase.KILLING:
            return (m, ()) if event.leftover else _gone(m, Gone(event.run), now)
        case Phase.BACKOFF | Phase.STOPPED | Phase.COMPLETED | Phase.ERRORED:
            return m, ()  # on record, but the acknowledgement was lost with the daemon
        case _:
            raise Impossible(m, event)


def _gone(m: Machine, event: Gone, now: float) -> Step:
    if event.run != m.run:
        return m, ()
    match m.phase:
        case Phase.CLEANING if m.pid is None:
            return _decide(m, now)
        case Phase.STOPPING | Phase.KILLING if m.pid is None:
            return _ended(m, now)
        case _:
            raise Impossible(m, event)


def _elapsed(m: Machine, _event: Elapsed, now: float) -> Step:
    if m.deadline is None or now < m.deadline:
        return m, ()
    match m.phase:
        case Phase.BACKOFF:
            return _again(m, now, m.shown)
        case Phase.STARTING:
            late = Exit(error=f"no exec within {SPAWN_TIMEOUT:.0f} s")
            return _kill(replace(m, ended=late), Phase.CLEANING, now, late.error)
        case Phase.STOPPING:
            return _kill(m, Phase.KILLING, now, f"still there after {m.policy.stop.kill_timeout:g} s")
        case Phase.KILLING | Phase.CLEANING:
            return replace(m, deadline=now + KILL_RETRY), (Kill(m.run),)
        case Phase.ONLINE | Phase.STOPPED | Phase.COMPLETED | Phase.ERRORED:
            raise Impossible(m, _event)


# ── a new daemon ────────────────────────────────────────────────────────────────────────────────────────────────


def resume(m: Machine, living: tuple[int, int] | None, ended: bool, now: float, newest: int = 0) -> Step:
    """The machine of a snapshot against what the keeper holds; the keeper is right.

    `living` is (run, pid) of the process it has, pid 0 while exec is undecided. `ended` says that it keeps the end
    of the machine's own run, and will tell it next; `newest` is the latest run of which it keeps the end, which may
    be one that the snapshot does not know. With none of them, the run was lost, and so is its exit status.
    """
    if living is not None:
        return _resume_living(m, *living, now)
    if newest > m.run or (ended and m.phase is Phase.STARTING):
        # Exited follows, and must find a process to be about: Spawned was said to the daemon that died.
        return _adopt(replace(m, run=max(newest, m.run), pid=0), now)
    if ended or m.phase in RESTING or m.phase is Phase.BACKOFF:
        return m, ()
    if m.phase is Phase.STARTING:
        return _spawn_failed(m, SpawnFailed(m.run, "lost when the daemon was restarted"), now)
    if m.pid is not None:
        return _exited(m, Exited(m.run), now)
    return _gone(m, Gone(m.run), now)


def disown(m: Machine, why: Exit, now: float) -> Step:
    """Give the run up without ending it: somebody else must."""
    return _enter(replace(m, pid=None, ended=why), Phase.ERRORED, now, why.error)


def _resume_living(m: Machine, run: int, pid: int, now: float) -> Step:
    same = run == m.run
    m = replace(m, run=run, pid=pid or None)
    if same and (pid == 0 or m.phase in (Phase.ONLINE, Phase.STOPPING, Phase.KILLING, Phase.CLEANING)):
        return m, ()
    if pid != 0:
        return _adopt(m, now)
    if m.wanted is Wanted.UP:
        return _enter(m, Phase.STARTING, now, m.shown, now + SPAWN_TIMEOUT)
    return _end(m, now, m.shown)


def _adopt(m: Machine, now: float) -> Step:
    """A process that was started by the daemon that died: online, and to be ended if up is not wanted."""
    online, changed = _enter(m, Phase.ONLINE, now, m.shown)
    if m.wanted is Wanted.UP:
        return online, changed
    stopping, more = _end(online, now, m.shown)
    return stopping, (*changed, *more)


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _enter(m: Machine, phase: Phase, now: float, cause: str, deadline: float | None = None) -> Step:
    """The one place that assigns the phase."""
    entered = replace(m, phase=phase, since=now, deadline=deadline, shown=cause)
    return entered, (Changed(m.run, m.phase, phase, cause),)


def _because(m: Machine, cause: str) -> Step:
    """The run is ending already; what follows has another cause now."""
    return replace(m, shown=cause), ()


def _spawn(m: Machine, now: float, cause: str) -> Step:
    """Ask for the next run."""
    started, changed = _enter(replace(m, run=m.run + 1, pid=None), Phase.STARTING, now, cause, now + SPAWN_TIMEOUT)
    return started, (*changed, Spawn(started.run))


def _again(m: Machine, now: float, cause: str) -> Step:
    return _spawn(replace(m, restarts=m.restarts + 1), now, cause)


def _end(m: Machine, now: float, cause: str) -> Step:
    """End the present run: with a signal when its pid is known, else as soon as it is."""
    stopping, changed = _enter(m, Phase.STOPPING, now, cause, now + m.policy.stop.kill_timeout)
    return stopping, (*changed, *((Terminate(m.run, Whom.GROUP),) if m.pid is not None else ()))


def _kill(m: Machine, phase: Phase, now: float, cause: str) -> Step:
    killing, changed = _enter(m, phase, now, cause, now + KILL_RETRY)
    return killing, (*changed, Kill(m.run))


def _ended(m: Machine, now: float) -> Step:
    """A run that was asked to end has ended."""
    if m.wanted is Wanted.UP:
        return _again(m, now, m.shown)
    return _enter(m, Phase.STOPPED, now, m.shown)


def _decide(m: Machine, now: float) -> Step:
    """A run has ended unasked."""
    ended = m.ended or Exit()
    match decide(m.policy.restart, m.record, ended, now, m.salt):
        case Completed(why):
            return _enter(m, Phase.COMPLETED, now, why)
        case GivenUp(why):
            return _enter(m, Phase.ERRORED, now, why)
        case Again(wait, record, why):
            m = replace(m, record=record)
            return _enter(m, Phase.BACKOFF, now, why, now + wait) if wait > 0 else _again(m, now, why)


def _words(m: Machine) -> str:
    return m.ended.words() if m.ended else "ended"


_HANDLERS: dict[type, Callable[..., Step]] = {
    Start: _start,
    Stop: _stop,
    Restart: _restart,
    Spawned: _spawned,
    SpawnFailed: _spawn_failed,
    Exited: _exited,
    Gone: _gone,
    Elapsed: _elapsed,
}

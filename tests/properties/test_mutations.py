"""The laws bite: each of these small mistakes in the lifecycle is found, and the lifecycle as it is passes.

A mutation is one replacement in the source text. The modules that follow from it (events, lifecycle, simulate and
the laws of test_lifecycle.py) are executed afresh, so that they use the broken copy and nothing else does.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
RESTART, EVENTS, LIFECYCLE, SIMULATE = (f"pmx.core.{name}" for name in ("restart", "events", "lifecycle", "simulate"))
LAWS = "tests.properties.test_lifecycle"
CHAIN = (RESTART, EVENTS, LIFECYCLE, SIMULATE, LAWS)


class Mutation(NamedTuple):
    name: str
    module: str
    old: str
    new: str
    check: str  # the part of the laws that finds it
    finding: str  # with these words


MUTATIONS = (
    Mutation(
        "a stale end is believed",
        LIFECYCLE,
        "def _exited(m: Machine, event: Exited, now: float) -> Step:\n    if event.run != m.run:",
        "def _exited(m: Machine, event: Exited, now: float) -> Step:\n    if event.run < m.run:",
        "events",
        "is about another run|cannot happen",
    ),
    Mutation(
        "what is left behind is forgotten",
        LIFECYCLE,
        "        case Phase.ONLINE if event.leftover:",
        "        case Phase.ONLINE if event.leftover and m.run < 0:",
        "events",
        "two processes|beside a process",
    ),
    Mutation(
        "leftovers are forgotten by a stop",
        LIFECYCLE,
        "        case Phase.STOPPING if event.leftover:\n            return done, (Terminate(m.run, Whom.STRAYS),)\n",
        "",
        "events",
        "two processes|beside a process",
    ),
    Mutation(
        "a restart does not wait for the old run",
        LIFECYCLE,
        "            return _again(m, now, event.cause)\n        case Phase.STARTING | Phase.ONLINE:",
        "            return _again(m, now, event.cause)\n        case Phase.ONLINE:\n"
        "            return _again(m, now, event.cause)\n        case Phase.STARTING:",
        "events",
        "two processes",
    ),
    Mutation(
        "a stop leaves a back-off to its timer",
        LIFECYCLE,
        "        case Phase.COMPLETED | Phase.ERRORED | Phase.BACKOFF:\n            return _enter(m, Phase.STOPPED",
        "        case Phase.BACKOFF:\n            return m, ()\n"
        "        case Phase.COMPLETED | Phase.ERRORED:\n            return _enter(m, Phase.STOPPED",
        "events",
        "nothing is done for it",
    ),
    Mutation(
        "a start during a stop is lost",
        LIFECYCLE,
        "    if m.wanted is Wanted.UP:\n        return _again(m, now, m.shown)\n",
        "",
        "events",
        "stopped, though up is wanted",
    ),
    Mutation(
        "no deadline for exec",
        LIFECYCLE,
        "Phase.STARTING, now, cause, now + SPAWN_TIMEOUT)\n    return started",
        "Phase.STARTING, now, cause)\n    return started",
        "events",
        "must not last has a deadline",
    ),
    Mutation(
        "a timer fires early",
        LIFECYCLE,
        "    if m.deadline is None or now < m.deadline:",
        "    if m.deadline is None:",
        "events",
        "a timer fires early",
    ),
    Mutation(
        "SIGKILL is not tried again",
        LIFECYCLE,
        "            return replace(m, deadline=now + KILL_RETRY), (Kill(m.run),)",
        "            return m, ()",
        "events",
        "no end of restarts|the deadline passes, and nothing is done",
    ),
    Mutation(
        "the pid is not kept",
        LIFECYCLE,
        "    up = replace(m, pid=event.pid)",
        "    up = m",
        "events",
        "online without a pid",
    ),
    Mutation(
        "the pid of a dead process is kept",
        LIFECYCLE,
        "    done = replace(m, pid=None, ended=",
        "    done = replace(m, ended=",
        "events",
        "a pid without a process|cannot happen",
    ),
    Mutation(
        "a change is not told",
        LIFECYCLE,
        "    return cleaning, (*changed, Terminate(m.run, Whom.ALL))",
        "    return cleaning, (Terminate(m.run, Whom.ALL),)",
        "events",
        "nobody was told",
    ),
    Mutation(
        "exec that hangs is not a crash",
        LIFECYCLE,
        "            return _kill(replace(m, ended=late), Phase.CLEANING, now, late.error)",
        "            return _kill(m, Phase.KILLING, now, late.error)",
        "limit",
        "restarts, .* are allowed",
    ),
    Mutation(
        "nobody is asked before SIGKILL",
        LIFECYCLE,
        "    return stopping, (*changed, *((Terminate(m.run, Whom.GROUP),) if m.pid is not None else ()))",
        "    return stopping, changed",
        "events",
        "nobody was asked to end",
    ),
    Mutation(
        "strays are not asked before SIGKILL",
        LIFECYCLE,
        "            return done, (Terminate(m.run, Whom.STRAYS),)",
        "            return done, ()",
        "polite",
        "killed, though it would have obeyed|though it obeys",
    ),
    Mutation(
        "a phase is forgotten",
        LIFECYCLE,
        "        case Phase.COMPLETED | Phase.ERRORED | Phase.BACKOFF:\n            return _enter(m, Phase.STOPPED",
        "        case Phase.COMPLETED | Phase.BACKOFF:\n            return _enter(m, Phase.STOPPED",
        "events",
        "NoneType",
    ),
    Mutation(
        "one restart too many",
        RESTART,
        "0 <= policy.max_restarts < len(crashes)",
        "0 <= policy.max_restarts < len(crashes) - 1",
        "limit",
        "restarts, 16 are allowed",
    ),
    Mutation(
        "PM2's hole: crashes stop counting after a while",
        RESTART,
        "    if policy.restart_window <= 0:\n        return crashes\n",
        "    if policy.restart_window <= 0:\n"
        "        return tuple(at for at in crashes if at > now - policy.min_uptime * policy.max_restarts)\n",
        "limit",
        "restarts, .* are allowed",
    ),
    Mutation(
        "a run resets the record before it is sound",
        RESTART,
        "    if ended.uptime >= policy.reset_after and not crashed:",
        "    if ended.uptime >= policy.reset_after:",
        "limit",
        "restarts, .* are allowed",
    ),
    Mutation(
        "no limit is a limit of none",
        RESTART,
        "    if crashed and 0 <= policy.max_restarts < len(crashes):",
        "    if crashed and policy.max_restarts <= len(crashes):",
        "limit",
        "restarts",
    ),
    Mutation(
        "sound runs count as crashes",
        RESTART,
        "    crashed = ended.uptime < policy.min_uptime",
        "    crashed = ended.uptime < policy.reset_after",
        "limit",
        "no run was a crash|errored",
    ),
    Mutation(
        "a living process is not adopted",
        LIFECYCLE,
        "    if living is not None:\n        return _resume_living(m, *living, now)\n",
        "",
        "crashes",
        "two processes|beside a process|everything is told",
    ),
    Mutation(
        "what is adopted is not ended, though down is wanted",
        LIFECYCLE,
        "    online, changed = _enter(m, Phase.ONLINE, now, m.shown)\n    if m.wanted is Wanted.UP:\n",
        "    online, changed = _enter(m, Phase.ONLINE, now, m.shown)\n    if m.run:\n",
        "crashes",
        "down is wanted, and nothing is done for it",
    ),
    Mutation(
        "an end that the snapshot does not know of is overlooked",
        LIFECYCLE,
        "    if newest > m.run or (ended and m.phase is Phase.STARTING):",
        "    if ended and m.phase is Phase.STARTING:",
        "crashes",
        "an end is overlooked",
    ),
    Mutation(
        "an end that is told again is a bug",
        LIFECYCLE,
        "            return m, ()  # on record, but",
        "            raise Impossible(m, event)  #",
        "crashes",
        "cannot happen while",
    ),
    Mutation(
        "a hanging exec is adopted, though down is wanted",
        LIFECYCLE,
        "    if m.wanted is Wanted.UP:\n        return _enter(m, Phase.STARTING, now",
        "    if m.run:\n        return _enter(m, Phase.STARTING, now",
        "crashes",
        "down is wanted, and nothing is done for it",
    ),
    Mutation(
        "an adoption is not told",
        LIFECYCLE,
        "    if m.wanted is Wanted.UP:\n        return online, changed\n",
        "    if m.wanted is Wanted.UP:\n        return online, ()\n",
        "crashes",
        "nobody was told",
    ),
)


def limits(laws: Any) -> None:
    """What the laws say of the limit, for a few policies and programs."""
    for policy in (laws.Policy(), laws.restarting(max_restarts=3, restart_delay=60.0)):
        for program in laws.PROGRAMS.values():
            if program.lifetime == 0.0:
                laws.check_limit(policy, program)
                laws.check_limit(policy, program, sound_runs=20)
    long_crash = laws.replace(laws.CRASHES, lifetime=50.0)
    laws.check_limit(laws.restarting(min_uptime=60.0, reset_after=30.0), long_crash)
    laws.check_no_limit(laws.FORGETFUL, laws.CRASHES)
    laws.check_no_limit(laws.SMALL, laws.replace(laws.CRASHES, lifetime=2.0))


def crashes(laws: Any) -> None:
    laws.LAG = 1  # enough to find these, and ten times faster
    laws.check_all_crashes(laws.FORGETFUL)


def politeness(laws: Any) -> None:
    for leaves in (False, True):
        laws.check_polite(leaves)


CHECKS: dict[str, Callable[[Any], object]] = {
    "events": lambda laws: laws.check_all(laws.SMALL),
    "crashes": crashes,
    "limit": limits,
    "polite": politeness,
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_the_laws_find_it(mutation: Mutation) -> None:
    laws = build(mutation)
    with pytest.raises((AssertionError, TypeError, laws.Impossible), match=mutation.finding):
        CHECKS[mutation.check](laws)


@pytest.mark.parametrize("check", CHECKS)
def test_the_lifecycle_as_it_is_passes(check: str) -> None:
    CHECKS[check](build(None))


def build(mutation: Mutation | None) -> Any:
    """The laws, about fresh copies of the modules of which one is broken."""
    kept = {name: sys.modules.get(name) for name in CHAIN}
    try:
        for name in CHAIN:
            fresh = ModuleType(name)
            _put(name, fresh)
            exec(compile(_source(name, mutation), f"{name} (a copy)", "exec"), fresh.__dict__)
        return sys.modules[LAWS]
    finally:
        for name, module in kept.items():
            _put(name, module)


def _put(name: str, module: ModuleType | None) -> None:
    """Make `module` what an import of `name` finds."""
    package, _, last = name.rpartition(".")
    if module is None:
        del sys.modules[name]
    else:
        sys.modules[name] = module
        if package in sys.modules:
            setattr(sys.modules[package], last, module)  # `from package import last` looks here first


def _source(name: str, mutation: Mutation | None) -> str:
    text = (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    if mutation is None or mutation.module != name:
        return text
    assert text.count(mutation.old) == 1, f"{mutation.name}: the text to replace is not there, or not only once"
    return text.replace(mutation.old, mutation.new)

"""Every transition that `pmx.core.lifecycle.step` can make, found by trying every event in every state."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

from pmx.core import lifecycle as lc
from pmx.core.spec import RestartPolicy

# Policies that lead to every verdict of pmx.core.restart.
POLICIES = tuple(
    lc.Policy(restart)
    for restart in (
        RestartPolicy(),
        RestartPolicy(autorestart=False),
        RestartPolicy(max_restarts=0),
        RestartPolicy(stop_exit_codes=(0,)),
        RestartPolicy(min_uptime=0.0),
    )
)
EVENTS = ("Start", "Stop", "Restart", "Spawned", "SpawnFailed", "Exited", "Exited, leftover", "Gone", "Elapsed")
COMMANDS = frozenset(EVENTS[:3])
_PID = 42
_RUN_LENGTHS = (0.0, 2.0, 60.0)  # a crash, a sound run, and one that makes earlier crashes forgotten


@dataclass
class Found:
    """`edges`: (phase, event) → phase after it → what was wanted then. `outcomes`: also what changes no phase."""

    edges: dict[tuple[lc.Phase, str], dict[lc.Phase, set[lc.Wanted]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    accepted: set[tuple[lc.Phase, str]] = field(default_factory=set)
    actions: dict[tuple[lc.Phase, str, lc.Phase], set[str]] = field(default_factory=lambda: defaultdict(set))
    with_pid: set[lc.Phase] = field(default_factory=set)
    with_deadline: set[lc.Phase] = field(default_factory=set)

    def condition(self, phase: lc.Phase, event: str, after: lc.Phase) -> str:
        """What must be wanted for this edge, when another edge of the same event needs the opposite; else empty."""
        wanted = self.edges[phase, event]
        if len(wanted) > 1 and all(other == after or not wanted[after] & wanted[other] for other in wanted):
            return " or ".join(sorted(wanted[after]))
        return ""


def explore() -> Found:
    """Breadth first over the states that differ in what `step` looks at."""
    found = Found()
    waiting = [lc.Machine(policy) for policy in POLICIES]
    seen = {_kind(machine) for machine in waiting}
    while waiting:
        machine = waiting.pop(0)
        _note_state(found, machine)
        for event, now in _attempts(machine):
            try:
                after, actions = lc.step(machine, event, now)
            except lc.Impossible:
                continue
            _note_step(found, machine, event, after, actions)
            if _kind(after) not in seen:
                seen.add(_kind(after))
                waiting.append(after)
    return found


def _attempts(machine: lc.Machine) -> list[tuple[lc.Event, float]]:
    """Every kind of event about the present run, at times that matter."""
    run = machine.run
    events: list[lc.Event] = [lc.Start(), lc.Stop(), lc.Restart(), lc.Spawned(run, _PID), lc.SpawnFailed(run, "why")]
    events += [lc.Exited(run, code, leftover=leftover) for code in (0, 1) for leftover in (False, True)]
    attempts = [(event, machine.since + length) for event in [*events, lc.Gone(run)] for length in _RUN_LENGTHS]
    attempts.append((lc.Elapsed(), machine.since if machine.deadline is None else machine.deadline))
    return attempts


def _kind(machine: lc.Machine) -> lc.Machine:
    """The machine without what only counts: two of a kind take the same steps."""
    record = replace(
        machine.record, crashes=(0.0,) * bool(machine.record.crashes), streak=min(machine.record.streak, 1)
    )
    ended = None if machine.ended is None else replace(machine.ended, uptime=0.0)
    deadline = None if machine.deadline is None else 0.0
    return replace(machine, run=0, since=0.0, deadline=deadline, restarts=0, record=record, ended=ended, shown="")


def _note_state(found: Found, machine: lc.Machine) -> None:
    if machine.pid is not None:
        found.with_pid.add(machine.phase)
    if machine.deadline is not None:
        found.with_deadline.add(machine.phase)


def _note_step(
    found: Found, before: lc.Machine, event: lc.Event, after: lc.Machine, actions: tuple[lc.Action, ...]
) -> None:
    name = type(event).__name__
    if isinstance(event, lc.Exited) and event.leftover:
        name += ", leftover"
    found.accepted.add((before.phase, name))
    for change in actions:
        if isinstance(change, lc.Changed):
            found.edges[change.old, name][change.new].add(after.wanted)
            others = [type(each).__name__ for each in actions if not isinstance(each, lc.Changed)]
            found.actions[change.old, name, change.new].add(", ".join(others))

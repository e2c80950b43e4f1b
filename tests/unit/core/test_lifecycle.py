"""The table of the lifecycle, a row for each pair of phase and event that matters; the laws are in tests/properties."""

from dataclasses import replace

import pytest

from pmx.core.lifecycle import (
    KILL_RETRY,
    RESTING,
    SPAWN_TIMEOUT,
    Action,
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
    Whom,
    disown,
    resume,
    step,
)
from pmx.core.restart import Exit, Record
from pmx.core.spec import RestartPolicy, StopPolicy

NOW = 1000.0
KILL_TIMEOUT = 10.0
POLICY = Policy(RestartPolicy(backoff_jitter=0.0), StopPolicy(kill_timeout=KILL_TIMEOUT))
DOWN = Machine(POLICY)
UP = replace(DOWN, wanted=Wanted.UP, run=3, since=NOW - 5, shown="start")

STARTING = replace(UP, phase=Phase.STARTING, deadline=NOW + SPAWN_TIMEOUT)
ONLINE = replace(UP, phase=Phase.ONLINE, pid=42)
CLEANING = replace(UP, phase=Phase.CLEANING, deadline=NOW + 4, ended=Exit(1, uptime=5.0))
LATE = replace(UP, phase=Phase.CLEANING, deadline=NOW + KILL_RETRY, ended=Exit(error="no exec within 30 s"))
BACKOFF = replace(UP, phase=Phase.BACKOFF, deadline=NOW + 2)
COMPLETED = replace(UP, phase=Phase.COMPLETED)
ERRORED = replace(UP, phase=Phase.ERRORED)
STOPPED = replace(UP, phase=Phase.STOPPED, wanted=Wanted.DOWN)
STOPPING = replace(ONLINE, phase=Phase.STOPPING, wanted=Wanted.DOWN, deadline=NOW + 10)
KILLING = replace(ONLINE, phase=Phase.KILLING, wanted=Wanted.DOWN, deadline=NOW + 5)
RESTARTING = replace(STOPPING, wanted=Wanted.UP)


def early(m: Machine) -> Machine:
    """The same, but Spawned has not been heard yet, or the main process is gone."""
    return replace(m, pid=None)


def act(m: Machine, event: Event, now: float = NOW) -> tuple[Machine, list[Phase], list[Action]]:
    """The new machine, the phases that were entered, and the other actions."""
    after, actions = step(m, event, now)
    entered = [action.new for action in actions if isinstance(action, Changed)]
    return after, entered, [action for action in actions if not isinstance(action, Changed)]


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "event", "entered", "actions"),
    [
        (DOWN, Start(), [Phase.STARTING], [Spawn(1)]),
        (STOPPED, Start(), [Phase.STARTING], [Spawn(4)]),
        (COMPLETED, Start(), [Phase.STARTING], [Spawn(4)]),
        (ERRORED, Start(), [Phase.STARTING], [Spawn(4)]),
        (BACKOFF, Start(), [Phase.STARTING], [Spawn(4)]),
        (STARTING, Start(), [], []),
        (ONLINE, Start(), [], []),
        (CLEANING, Start(), [], []),
        (STOPPING, Start(), [], []),
        (KILLING, Start(), [], []),
        (STOPPED, Stop(), [], []),
        (COMPLETED, Stop(), [Phase.STOPPED], []),
        (ERRORED, Stop(), [Phase.STOPPED], []),
        (BACKOFF, Stop(), [Phase.STOPPED], []),
        (STARTING, Stop(), [Phase.STOPPING], []),
        (ONLINE, Stop(), [Phase.STOPPING], [Terminate(3, Whom.GROUP)]),
        (CLEANING, Stop(), [Phase.STOPPING], []),
        (STOPPING, Stop(), [], []),
        (RESTARTING, Stop(), [], []),
        (KILLING, Stop(), [], []),
        (DOWN, Restart(), [Phase.STARTING], [Spawn(1)]),
        (COMPLETED, Restart(), [Phase.STARTING], [Spawn(4)]),
        (ERRORED, Restart(), [Phase.STARTING], [Spawn(4)]),
        (BACKOFF, Restart(), [Phase.STARTING], [Spawn(4)]),
        (STARTING, Restart(), [Phase.STOPPING], []),
        (ONLINE, Restart(), [Phase.STOPPING], [Terminate(3, Whom.GROUP)]),
        (CLEANING, Restart(), [Phase.STOPPING], []),
        (STOPPING, Restart(), [], []),
        (KILLING, Restart(), [], []),
    ],
)
def test_a_command(before: Machine, event: Event, entered: list[Phase], actions: list[Action]) -> None:
    after, *found = act(before, event)
    assert found == [entered, actions]
    assert after.wanted is (Wanted.DOWN if isinstance(event, Stop) else Wanted.UP)


def test_a_change_says_from_what_to_what_in_which_run_and_why() -> None:
    assert step(ONLINE, Stop("pmx stop web"), NOW)[1][0] == Changed(3, Phase.ONLINE, Phase.STOPPING, "pmx stop web")
    assert step(STOPPED, Start("watch"), NOW)[1] == (Changed(4, Phase.STOPPED, Phase.STARTING, "watch"), Spawn(4))
    assert step(ONLINE, Stop("pmx stop web"), NOW)[0].shown == "pmx stop web"


@pytest.mark.parametrize(
    ("before", "event", "deadline"),
    [
        (DOWN, Start(), NOW + SPAWN_TIMEOUT),
        (ONLINE, Stop(), NOW + KILL_TIMEOUT),
        (STARTING, Restart(), NOW + KILL_TIMEOUT),
        (CLEANING, Stop(), NOW + 4),
        (STARTING, Spawned(3, 42), None),
        (COMPLETED, Stop(), None),
    ],
)
def test_a_deadline_belongs_to_the_phase(before: Machine, event: Event, deadline: float | None) -> None:
    assert step(before, event, NOW)[0].deadline == deadline


def test_a_start_and_a_restart_forget_crashes_and_only_a_restart_is_counted() -> None:
    looping = replace(ERRORED, record=Record((1.0, 2.0), 2), restarts=16)
    started, restarted = (step(looping, event, NOW)[0] for event in (Start(), Restart()))
    assert (started.record, started.restarts) == (Record(), 16)
    assert (restarted.record, restarted.restarts) == (Record(), 17)


# ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────────

SIGKILLED = Exited(3, None, "SIGKILL")


@pytest.mark.parametrize(
    ("before", "event", "entered", "actions"),
    [
        (STARTING, Spawned(3, 42), [Phase.ONLINE], []),
        (early(STOPPING), Spawned(3, 42), [], [Terminate(3, Whom.GROUP)]),
        (early(KILLING), Spawned(3, 42), [], [Kill(3)]),
        (LATE, Spawned(3, 42), [], [Kill(3)]),
        (STARTING, SpawnFailed(3, "no"), [Phase.BACKOFF], []),
        (LATE, SpawnFailed(3, "no"), [Phase.BACKOFF], []),
        (early(STOPPING), SpawnFailed(3, "no"), [Phase.STOPPED], []),
        (early(KILLING), SpawnFailed(3, "no"), [Phase.STOPPED], []),
        (early(RESTARTING), SpawnFailed(3, "no"), [Phase.STARTING], [Spawn(4)]),
        (ONLINE, Exited(3, 0), [Phase.STARTING], [Spawn(4)]),
        (ONLINE, Exited(3, 1, "", True), [Phase.CLEANING], [Terminate(3, Whom.ALL)]),
        (STOPPING, Exited(3, 0), [Phase.STOPPED], []),
        (STOPPING, Exited(3, 0, "", True), [], [Terminate(3, Whom.STRAYS)]),
        (KILLING, SIGKILLED, [Phase.STOPPED], []),
        (KILLING, replace(SIGKILLED, leftover=True), [], [Kill(3)]),
        (RESTARTING, Exited(3, 0), [Phase.STARTING], [Spawn(4)]),
        (replace(LATE, pid=42), SIGKILLED, [Phase.BACKOFF], []),
        (replace(LATE, pid=42), replace(SIGKILLED, leftover=True), [], [Kill(3)]),
        (CLEANING, Gone(3), [Phase.STARTING], [Spawn(4)]),
        (early(STOPPING), Gone(3), [Phase.STOPPED], []),
        (early(KILLING), Gone(3), [Phase.STOPPED], []),
        (early(RESTARTING), Gone(3), [Phase.STARTING], [Spawn(4)]),
    ],
)
def test_a_fact(before: Machine, event: Event, entered: list[Phase], actions: list[Action]) -> None:
    assert list(act(before, event)[1:]) == [entered, actions]


@pytest.mark.parametrize("before", [CLEANING, early(STOPPING), early(KILLING)])
def test_an_end_that_is_told_again_is_news_only_when_nothing_is_left_over(before: Machine) -> None:
    assert step(before, Exited(3, 1, "", True), NOW) == (before, ())
    assert step(before, Exited(3, 1), NOW) == step(before, Gone(3), NOW)


@pytest.mark.parametrize("before", [STOPPED, COMPLETED, ERRORED, BACKOFF])
def test_an_end_that_is_told_again_after_all_is_over_is_no_news(before: Machine) -> None:
    assert step(before, Exited(3, 1), NOW) == (before, ())


@pytest.mark.parametrize("before", [STARTING, ONLINE, CLEANING, BACKOFF, STOPPED, STOPPING, KILLING])
@pytest.mark.parametrize("run", [2, 4])
def test_a_fact_about_another_run_is_stale(before: Machine, run: int) -> None:
    for event in (Spawned(run, 9), SpawnFailed(run, "no"), Exited(run, 0), Exited(run, 0, "", True), Gone(run)):
        assert step(before, event, NOW) == (before, ())


@pytest.mark.parametrize(
    ("before", "event"),
    [
        (ONLINE, Spawned(3, 9)),
        (STOPPED, Spawned(3, 9)),
        (STOPPING, Spawned(3, 9)),
        (ONLINE, SpawnFailed(3, "no")),
        (STOPPING, SpawnFailed(3, "no")),
        (replace(LATE, pid=42), SpawnFailed(3, "no")),
        (STARTING, Exited(3, 0)),
        (STARTING, Gone(3)),
        (ONLINE, Gone(3)),
        (BACKOFF, Gone(3)),
        (STOPPING, Gone(3)),
        (replace(LATE, pid=42), Gone(3)),
        (replace(STARTING, pid=42), Exited(3, 0)),
        (replace(ONLINE, deadline=NOW), Elapsed()),
    ],
)
def test_what_cannot_happen_is_called_a_bug(before: Machine, event: Event) -> None:
    with pytest.raises(Impossible) as caught:
        step(before, event, NOW)
    assert str(caught.value) == f"internal error: {event} cannot happen while {before.phase} in run 3"


def test_how_long_a_run_was_and_how_it_ended() -> None:
    after, _ = step(ONLINE, Exited(3, None, "SIGSEGV"), NOW)
    assert after.ended == Exit(None, "SIGSEGV", uptime=5.0)
    assert after.shown == "killed by SIGSEGV"


def test_a_run_that_was_told_to_end_has_no_uptime_that_would_count() -> None:
    assert step(STOPPING, Exited(3, 0), NOW)[0].ended == Exit(0)


def test_leftovers_are_a_reason_of_their_own() -> None:
    cleaning, _ = step(ONLINE, Exited(3, 1, "", True), NOW)
    assert cleaning.shown == "exited with code 1; ending what it left behind"
    assert cleaning.deadline == NOW + KILL_TIMEOUT
    assert step(cleaning, Gone(3), NOW + 60)[0].ended == Exit(1, uptime=5.0)  # cleaning is not running


def test_a_pid_that_is_learnt_late_gives_the_program_its_whole_time() -> None:
    after, _ = step(replace(early(STOPPING), deadline=NOW + 0.1), Spawned(3, 42), NOW)
    assert (after.pid, after.deadline) == (42, NOW + KILL_TIMEOUT)


@pytest.mark.parametrize(
    ("policy", "end", "phase"),
    [
        (RestartPolicy(), Exited(3, 0), Phase.STARTING),
        (RestartPolicy(restart_delay=2.0), Exited(3, 0), Phase.BACKOFF),
        (RestartPolicy(stop_exit_codes=(0,)), Exited(3, 0), Phase.COMPLETED),
        (RestartPolicy(autorestart=False), Exited(3, 0), Phase.COMPLETED),
        (RestartPolicy(autorestart=False), Exited(3, 1), Phase.ERRORED),
        (RestartPolicy(min_uptime=6.0, max_restarts=0), Exited(3, 0), Phase.ERRORED),
    ],
)
def test_the_verdict_is_a_phase(policy: RestartPolicy, end: Exited, phase: Phase) -> None:
    assert step(replace(ONLINE, policy=Policy(policy)), end, NOW)[0].phase is phase


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "entered", "actions", "deadline", "cause"),
    [
        (BACKOFF, [Phase.STARTING], [Spawn(4)], SPAWN_TIMEOUT, "start"),
        (STARTING, [Phase.CLEANING], [Kill(3)], KILL_RETRY, "no exec within 30 s"),
        (STOPPING, [Phase.KILLING], [Kill(3)], KILL_RETRY, "still there after 10 s"),
        (early(STOPPING), [Phase.KILLING], [Kill(3)], KILL_RETRY, "still there after 10 s"),
        (KILLING, [], [Kill(3)], KILL_RETRY, "start"),
        (CLEANING, [], [Kill(3)], KILL_RETRY, "start"),
    ],
)
def test_a_deadline_that_passes(
    before: Machine, entered: list[Phase], actions: list[Action], deadline: float, cause: str
) -> None:
    assert before.deadline is not None
    assert step(before, Elapsed(), before.deadline - 0.001) == (before, ())
    late = before.deadline + 1.5
    after, *found = act(before, Elapsed(), late)
    assert found == [entered, actions]
    assert (after.deadline, after.shown) == (late + deadline, cause)


@pytest.mark.parametrize("before", [DOWN, STOPPED, COMPLETED, ERRORED, ONLINE])
def test_without_a_deadline_time_does_nothing(before: Machine) -> None:
    assert step(before, Elapsed(), NOW + 1e9) == (before, ())


def test_an_exec_that_hangs_is_a_crash() -> None:
    late, _ = step(STARTING, Elapsed(), NOW + SPAWN_TIMEOUT)
    killed, _ = step(step(late, Spawned(3, 42), NOW + 30)[0], SIGKILLED, NOW + 31)
    assert killed.phase is Phase.BACKOFF
    assert killed.record == Record((NOW + 31,), 1)
    assert killed.shown == "no exec within 30 s"


# ── a new daemon ────────────────────────────────────────────────────────────────────────────────────────────────

LOST = "lost when the daemon was restarted"
TOLD_NEXT = 0
"""The pid of a run whose end the keeper will tell."""


@pytest.mark.parametrize(
    ("saved", "living", "phase", "pid", "actions"),
    [
        (STARTING, (3, 0), Phase.STARTING, None, []),
        (STARTING, (3, 42), Phase.ONLINE, 42, []),
        (ONLINE, (3, 42), Phase.ONLINE, 42, []),
        (STOPPING, (3, 42), Phase.STOPPING, 42, []),
        (early(STOPPING), (3, 42), Phase.STOPPING, 42, []),
        (early(STOPPING), (3, 0), Phase.STOPPING, None, []),
        (KILLING, (3, 42), Phase.KILLING, 42, []),
        (LATE, (3, 42), Phase.CLEANING, 42, []),
        # the snapshot is older than the run
        (BACKOFF, (4, 0), Phase.STARTING, None, []),
        (BACKOFF, (4, 43), Phase.ONLINE, 43, []),
        (ONLINE, (5, 44), Phase.ONLINE, 44, []),
        (ERRORED, (4, 43), Phase.ONLINE, 43, []),
        (STOPPED, (4, 0), Phase.STOPPING, None, []),
        (STOPPED, (4, 43), Phase.STOPPING, 43, [Terminate(4, Whom.GROUP)]),
        (STOPPING, (4, 43), Phase.STOPPING, 43, [Terminate(4, Whom.GROUP)]),
    ],
)
def test_a_living_run_is_adopted(
    saved: Machine, living: tuple[int, int], phase: Phase, pid: int | None, actions: list[Action]
) -> None:
    after, found = resume(saved, living, False, NOW)
    assert (after.phase, after.run, after.pid) == (phase, living[0], pid)
    assert [action for action in found if not isinstance(action, Changed)] == actions
    assert after.wanted is saved.wanted


def test_an_adopted_run_that_was_known_keeps_its_clocks() -> None:
    assert resume(ONLINE, (3, 42), False, NOW) == (ONLINE, ())
    assert resume(STOPPING, (3, 42), False, NOW) == (STOPPING, ())


@pytest.mark.parametrize(
    ("saved", "newest", "phase", "run", "pid", "actions"),
    [
        (STARTING, 3, Phase.ONLINE, 3, TOLD_NEXT, []),
        (ONLINE, 3, Phase.ONLINE, 3, 42, []),
        (STOPPING, 3, Phase.STOPPING, 3, 42, []),
        (CLEANING, 3, Phase.CLEANING, 3, None, []),
        (BACKOFF, 3, Phase.BACKOFF, 3, None, []),
        (STOPPED, 3, Phase.STOPPED, 3, None, []),
        # the snapshot is older than the run
        (ONLINE, 5, Phase.ONLINE, 5, TOLD_NEXT, []),
        (BACKOFF, 4, Phase.ONLINE, 4, TOLD_NEXT, []),
        (STOPPED, 4, Phase.STOPPING, 4, TOLD_NEXT, [Terminate(4, Whom.GROUP)]),
    ],
)
def test_an_end_that_will_be_told_finds_a_run_to_be_about(
    saved: Machine, newest: int, phase: Phase, run: int, pid: int | None, actions: list[Action]
) -> None:
    after, found = resume(saved, None, newest == saved.run or saved is ONLINE, NOW, newest)
    assert (after.phase, after.run, after.pid) == (phase, run, pid)
    assert [action for action in found if not isinstance(action, Changed)] == actions
    step(after, Exited(run, 1), NOW)  # is not Impossible


@pytest.mark.parametrize(
    ("saved", "phase", "ended"),
    [
        (STARTING, Phase.BACKOFF, Exit(error=LOST)),
        (ONLINE, Phase.STARTING, Exit(uptime=5.0)),
        (CLEANING, Phase.STARTING, CLEANING.ended),
        (STOPPING, Phase.STOPPED, Exit()),
        (early(STOPPING), Phase.STOPPED, None),
        (KILLING, Phase.STOPPED, Exit()),
        (RESTARTING, Phase.STARTING, Exit()),
    ],
)
def test_a_run_of_which_nothing_is_known_is_lost(saved: Machine, phase: Phase, ended: Exit | None) -> None:
    after, _ = resume(saved, None, False, NOW)
    assert (after.phase, after.ended) == (phase, ended)


@pytest.mark.parametrize("saved", [STOPPED, COMPLETED, ERRORED, BACKOFF])
def test_without_a_run_there_is_nothing_to_resume(saved: Machine) -> None:
    assert resume(saved, None, False, NOW) == (saved, ())


def test_an_adoption_is_in_the_history() -> None:
    assert resume(STARTING, (3, 42), False, NOW)[1] == (Changed(3, Phase.STARTING, Phase.ONLINE, "start"),)
    assert [action for action in resume(STOPPED, (4, 43), False, NOW)[1] if isinstance(action, Changed)] == [
        Changed(4, Phase.STOPPED, Phase.ONLINE, "start"),
        Changed(4, Phase.ONLINE, Phase.STOPPING, "start"),
    ]


def test_a_run_can_be_given_up_without_being_ended() -> None:
    why = Exit(error="pid 42 still runs, but its keeper was killed")
    after, actions = disown(ONLINE, why, NOW)
    assert (after.phase, after.pid, after.ended) == (Phase.ERRORED, None, why)
    assert actions == (Changed(3, Phase.ONLINE, Phase.ERRORED, why.error),)


def test_resting_is_what_only_a_command_leaves() -> None:
    for phase in RESTING:
        before = replace(UP, phase=phase)
        for event in (Elapsed(), Exited(3, 1), Spawned(9, 9), Gone(9)):
            assert step(before, event, NOW) == (before, ())


def test_a_start_during_a_stop_is_the_cause_of_the_next_run() -> None:
    machine = Machine(Policy())
    for event in (Start("by hand"), Spawned(1, 100), Stop("deploy"), Start("changed my mind"), Exited(1, 0)):
        machine, actions = step(machine, event, 10.0)
    assert (machine.phase, machine.run, machine.shown) == (Phase.STARTING, 2, "changed my mind")
    assert isinstance(actions[0], Changed)
    assert actions[0].cause == "changed my mind"

from dataclasses import replace

import pytest

from pmx.core.restart import Again, Completed, Exit, GivenUp, Record, Verdict, decide, delay, jitter
from pmx.core.spec import RestartPolicy

DEFAULT = RestartPolicy()
STEADY = RestartPolicy(backoff_jitter=0.0)
CRASH = Exit(code=1, uptime=0.0)
SOUND = Exit(code=1, uptime=5.0)  # longer than min_uptime, shorter than reset_after
LONG = Exit(code=1, uptime=30.0)


def again(verdict: Verdict) -> Again:
    assert isinstance(verdict, Again)
    return verdict


def follow(policy: RestartPolicy, ends: list[Exit], every: float = 1.0) -> list[Verdict]:
    """The verdicts on a series of ends, up to the one that is final."""
    record, verdicts = Record(), list[Verdict]()
    for number, end in enumerate(ends):
        verdicts.append(decide(policy, record, end, 100 + number * every, 0))
        match verdicts[-1]:
            case Again(_, next_record, _):
                record = next_record
            case Completed() | GivenUp():
                break
    return verdicts


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (Exit(code=0), "exited with code 0"),
        (Exit(code=143), "exited with code 143"),
        (Exit(signal="SIGSEGV"), "killed by SIGSEGV"),
        (Exit(error="cannot run x: no such file (ENOENT)"), "cannot run x: no such file (ENOENT)"),
        (Exit(), "ended with an unknown status"),
    ],
)
def test_an_end_in_words(end: Exit, words: str) -> None:
    assert end.words() == words


# ── delays ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_back_off_starts_at_100_ms_grows_by_half_and_ends_at_15_s() -> None:
    delays = [delay(STEADY, streak, True, 0) for streak in range(16)]
    assert delays == pytest.approx([
        0.1, 0.15, 0.225, 0.3375, 0.50625, 0.759375, 1.1390625, 1.70859375, 2.562890625, 3.8443359375,
        5.76650390625, 8.649755859375, 12.9746337890625, 15, 15, 15,
    ])  # fmt: skip


def test_a_crash_loop_gets_these_delays() -> None:
    delays = [again(verdict).delay for verdict in follow(STEADY, [CRASH] * 5)]
    assert delays == pytest.approx([0.1, 0.15, 0.225, 0.3375, 0.50625])


@pytest.mark.parametrize("salt", range(0, 50, 7))
def test_jitter_only_shortens_and_by_a_tenth_at_most(salt: int) -> None:
    for streak in range(30):
        plain, shaken = delay(STEADY, streak, True, salt), delay(DEFAULT, streak, True, salt)
        assert 0.9 * plain < shaken <= plain


def test_jitter_is_the_same_for_the_same_and_spreads_a_crowd() -> None:
    assert jitter(3, 4) == jitter(3, 4)
    tenths = {int(10 * jitter(salt, 1)) for salt in range(20)}
    assert len(tenths) == 10


@pytest.mark.parametrize(
    ("streak", "crashed", "immediate"), [(0, False, True), (0, True, False), (1, False, False), (1, True, False)]
)
def test_only_the_first_restart_after_a_sound_run_is_immediate(streak: int, crashed: bool, immediate: bool) -> None:
    assert (delay(STEADY, streak, crashed, 0) == 0) is immediate


@pytest.mark.parametrize(("streak", "crashed"), [(0, False), (0, True), (9, True)])
def test_a_fixed_delay_knows_neither_exception_nor_jitter(streak: int, crashed: bool) -> None:
    assert delay(RestartPolicy(restart_delay=2.5), streak, crashed, 7) == 2.5


def test_a_streak_of_thousands_and_an_absurd_factor_wait_as_long_as_is_allowed() -> None:
    assert delay(STEADY, 100_000, True, 0) == 15
    assert delay(replace(STEADY, backoff_factor=1e300), 2, True, 0) == 15


# ── verdicts ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        (Exit(code=0), Completed("exited with code 0, one of stop_exit_codes")),
        (Exit(code=3, uptime=100.0), Completed("exited with code 3, one of stop_exit_codes")),
        (Exit(code=1), Again),
        (Exit(signal="SIGKILL"), Again),
        (Exit(), Again),  # an unknown status is no code
        (Exit(error="no such file"), Again),
    ],
)
def test_stop_exit_codes(end: Exit, verdict: Verdict | type[Again]) -> None:
    found = decide(RestartPolicy(stop_exit_codes=(0, 3)), Record(), end, 0.0, 0)
    assert isinstance(found, Again) if verdict is Again else found == verdict


@pytest.mark.parametrize(
    ("end", "verdict"),
    [
        (Exit(code=0), Completed("exited with code 0")),
        (Exit(code=1, uptime=100.0), GivenUp("exited with code 1, and autorestart is off")),
        (Exit(signal="SIGTERM"), GivenUp("killed by SIGTERM, and autorestart is off")),
        (Exit(), GivenUp("ended with an unknown status, and autorestart is off")),
        (Exit(error="no such file"), GivenUp("no such file, and autorestart is off")),
    ],
)
def test_without_autorestart_code_0_completes_and_all_else_is_an_error(end: Exit, verdict: Verdict) -> None:
    assert decide(RestartPolicy(autorestart=False), Record(), end, 0.0, 0) == verdict


def test_a_stop_exit_code_completes_also_without_autorestart() -> None:
    policy = RestartPolicy(autorestart=False, stop_exit_codes=(7,))
    assert isinstance(decide(policy, Record(), Exit(code=7), 0.0, 0), Completed)


@pytest.mark.parametrize("limit", [0, 1, 3, 16])
def test_one_crash_more_than_max_restarts_gives_up(limit: int) -> None:
    verdicts = follow(RestartPolicy(max_restarts=limit), [CRASH] * 100)
    assert [type(verdict) for verdict in verdicts] == [Again] * limit + [GivenUp]


def test_giving_up_says_how_the_last_run_ended_and_how_many_crashes_there_were() -> None:
    (*_, last) = follow(RestartPolicy(max_restarts=2), [CRASH] * 9)
    assert last == GivenUp("exited with code 1; crash 3 without a run of 30 s in between")


def test_without_a_limit_nothing_is_counted_or_kept() -> None:
    verdicts = follow(RestartPolicy(max_restarts=-1), [CRASH] * 100)
    assert len(verdicts) == 100
    assert again(verdicts[-1]).record == Record((199.0,), 100)  # not a hundred crashes, in every snapshot


@pytest.mark.parametrize(("uptime", "crashes"), [(0.0, 1), (0.999, 1), (1.0, 0), (29.0, 0)])
def test_a_crash_is_a_run_shorter_than_min_uptime(uptime: float, crashes: int) -> None:
    verdict = again(decide(DEFAULT, Record(), Exit(code=0, uptime=uptime), 50.0, 0))
    assert verdict.record == Record((50.0,) * crashes, 1)


def test_sound_runs_are_not_counted_however_many_there_are() -> None:
    assert len(follow(RestartPolicy(max_restarts=1), [SOUND] * 100)) == 100


def test_a_sound_run_between_crashes_forgets_nothing() -> None:
    verdicts = follow(RestartPolicy(max_restarts=2), [CRASH, SOUND, CRASH, SOUND, CRASH])
    assert [type(verdict) for verdict in verdicts] == [Again] * 4 + [GivenUp]


def test_a_run_of_reset_after_forgets_crashes_and_streak() -> None:
    assert decide(STEADY, Record((1.0, 2.0), 9), LONG, 50.0, 0) == Again(0.0, Record((), 1), "exited with code 1")
    assert len(follow(RestartPolicy(max_restarts=2), [CRASH, CRASH, LONG] * 20)) == 60


def test_a_crash_forgets_nothing_even_when_it_took_as_long_as_reset_after() -> None:
    policy = RestartPolicy(max_restarts=2, min_uptime=60.0, reset_after=30.0)
    (*_, last) = follow(policy, [Exit(code=1, uptime=40.0)] * 9)
    assert last == GivenUp("exited with code 1; crash 3 without a run of 60 s in between")


@pytest.mark.parametrize("every", [0.1, 60.0, 86_400.0])
def test_without_a_window_time_is_no_way_past_the_limit(every: float) -> None:
    assert len(follow(RestartPolicy(max_restarts=4), [CRASH] * 99, every)) == 5


@pytest.mark.parametrize(("every", "verdicts"), [(4.9, 3), (5.0, 99), (20.0, 99)])
def test_a_window_counts_the_crashes_within_it(every: float, verdicts: int) -> None:
    policy = RestartPolicy(max_restarts=2, restart_window=10.0)
    assert len(follow(policy, [CRASH] * 99, every)) == verdicts


def test_a_window_is_named_when_it_is_full() -> None:
    (*_, last) = follow(RestartPolicy(max_restarts=1, restart_window=90.0), [CRASH] * 9)
    assert last == GivenUp("exited with code 1; crash 2 within 90 s")


def test_crashes_older_than_the_window_are_not_kept() -> None:
    verdict = again(decide(RestartPolicy(restart_window=10.0), Record((1.0, 95.0), 2), CRASH, 100.0, 0))
    assert verdict.record.crashes == (95.0, 100.0)

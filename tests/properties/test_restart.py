from hypothesis import given, settings, strategies as st

from pmx.core.restart import Again, Completed, Exit, GivenUp, Record, decide, delay, jitter
from pmx.core.spec import RestartPolicy

seconds = st.floats(0, 1e6)
policies = st.builds(
    RestartPolicy,
    st.booleans(),
    min_uptime=seconds,
    max_restarts=st.integers(-1, 20),
    restart_window=st.just(0.0) | seconds,
    restart_delay=st.just(0.0) | seconds,
    backoff_initial=seconds,
    backoff_factor=st.floats(1, 1e300),
    backoff_max=seconds,
    backoff_jitter=st.floats(0, 1),
    reset_after=seconds,
    stop_exit_codes=st.lists(st.integers(0, 255), max_size=3).map(tuple),
)
ends = st.builds(
    Exit, st.none() | st.integers(0, 255), st.sampled_from(["", "SIGKILL"]), st.sampled_from(["", "no"]), seconds
)
records = st.builds(Record, st.lists(seconds, max_size=25).map(sorted).map(tuple), st.integers(0, 10**6))
salts = st.integers(0, 10**6)


@settings(deadline=None)
@given(policies, records, ends, seconds, salts)
def test_there_is_always_a_verdict_with_a_reason(
    policy: RestartPolicy, record: Record, ended: Exit, now: float, salt: int
) -> None:
    verdict = decide(policy, record, ended, now, salt)
    assert verdict.why.startswith(ended.words())
    match verdict:
        case Completed():
            assert ended.code in policy.stop_exit_codes or (ended.code == 0 and not policy.autorestart)
        case GivenUp():
            assert not policy.autorestart or ended.uptime < policy.min_uptime
        case Again(wait, _, _):
            assert policy.autorestart
            assert wait >= 0


@settings(deadline=None)
@given(policies, records, ends, seconds, salts)
def test_what_is_kept_is_bounded_by_the_limit(
    policy: RestartPolicy, record: Record, ended: Exit, now: float, salt: int
) -> None:
    record = Record(record.crashes[: max(0, policy.max_restarts)], record.streak)
    verdict = decide(policy, record, ended, now, salt)
    if isinstance(verdict, Again):
        assert len(verdict.record.crashes) <= max(1, policy.max_restarts)


@settings(deadline=None)
@given(policies, st.integers(0, 10**6), st.booleans(), salts)
def test_a_delay_is_within_its_bounds(policy: RestartPolicy, streak: int, crashed: bool, salt: int) -> None:
    wait = delay(policy, streak, crashed, salt)
    if policy.restart_delay > 0:
        assert wait == policy.restart_delay
    else:
        assert 0 <= wait <= policy.backoff_max


@settings(deadline=None)
@given(policies, st.integers(0, 200), salts)
def test_without_jitter_delays_never_get_shorter(policy: RestartPolicy, streak: int, salt: int) -> None:
    plain = RestartPolicy(
        backoff_initial=policy.backoff_initial, backoff_factor=policy.backoff_factor, backoff_jitter=0.0
    )
    assert delay(plain, streak, True, salt) <= delay(plain, streak + 1, True, salt)


@settings(deadline=None)
@given(salts, st.integers(0, 10**6))
def test_jitter_is_a_share(salt: int, run: int) -> None:
    assert 0 <= jitter(salt, run) < 1


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 64), st.integers(0, 40))
def test_neighbours_are_spread_better_than_by_chance(first: int, crowd: int, run: int) -> None:
    """The steps of a golden section leave no gap wider than three times the average, for a crowd of any size."""
    places = sorted(jitter(first + number, run) for number in range(crowd))
    gaps = [after - before for before, after in zip(places, [*places[1:], places[0] + 1], strict=True)]
    assert max(gaps) <= 3 / crowd

import pytest

from pmx.core.balance import QUICKEST, SLOWEST, Pace, least_conn, looked


@pytest.mark.parametrize(
    ("counts", "weights", "recent", "expected"),
    [
        ({}, {0: 1, 1: 1}, 0, {0: 1, 1: 1}),
        ({0: 5, 1: 5}, {0: 1, 1: 1}, 2, {0: 1, 1: 1}),
        ({0: 6, 1: 2}, {0: 3, 1: 1}, 0, {0: 3, 1: 1}),  # equally full, by weight
        ({0: 1, 1: 0}, {0: 1, 1: 1}, 1, {0: 25, 1: 100}),
        ({0: 2, 1: 0}, {0: 1, 1: 1}, 1, {0: 11, 1: 100}),
        ({0: 2}, {0: 1, 1: 1}, 1, {0: 11, 1: 100}),
        ({0: 2, 1: 0, 7: 90}, {0: 1, 1: 1}, 1, {0: 11, 1: 100}),  # 7 is none of them
        ({0: 1000, 1: 0}, {0: 1, 1: 1}, 1, {0: 1, 1: 100}),
        ({0: 2, 1: 0}, {0: 10, 1: 10}, 1, {0: 11, 1: 100}),  # weights say nothing but their proportion
        ({0: 2, 1: 0, 2: 0}, {0: 1, 1: 1, 2: 0}, 1, {0: 11, 1: 100, 2: 0}),
        ({0: 2, 1: 0}, {0: 1, 1: 1}, 4, {0: 11, 1: 100}),  # room for 1 and 3
        ({0: 2, 1: 0}, {0: 1, 1: 1}, 5, {0: 1, 1: 1}),
        ({0: 3}, {0: 0}, 0, {0: 0}),
        ({0: 3}, {0: 7}, 1, {0: 7}),
        ({}, {}, 0, {}),
    ],
)
def test_the_weights_until_the_next_look(
    counts: dict[int, int], weights: dict[int, int], recent: int, expected: dict[int, int]
) -> None:
    assert least_conn(counts, weights, recent) == expected


def test_looks_are_rarer_while_nothing_happens_and_quick_again_after_a_change() -> None:
    pace = Pace()
    waits = []
    for at in range(8):
        pace = looked(pace, 0, 10, False, 0.0, float(at))
        waits.append(pace.wait)
        assert pace.at == at + pace.wait
    assert waits == [0.04, 0.08, 0.16, 0.32, SLOWEST, SLOWEST, SLOWEST, SLOWEST]
    assert looked(pace, 1, 10, True, 0.0, 8.0) == Pace(8.0 + QUICKEST, QUICKEST)


def test_a_look_that_takes_long_is_followed_by_a_long_wait() -> None:
    assert looked(Pace(), 1, 4000, True, 0.02, 100.0).at == pytest.approx(100.4)
    assert looked(Pace(), 1, 10**6, True, 2.0, 100.0).wait == pytest.approx(40.0)
    assert looked(Pace(), 1, 10, True, 0.0005, 100.0).wait == QUICKEST


def test_connections_that_are_new_at_each_look_are_too_short_to_be_balanced() -> None:
    pace = Pace()
    resting = []
    for at in range(7):
        pace = looked(pace, 60, 64, True, 0.0, float(at))
        resting.append(pace.resting)
    assert resting == [False] * 5 + [True] * 2
    assert pace.wait == SLOWEST
    pace = looked(pace, 32, 64, True, 0.0, 8.0)
    assert not pace.resting
    assert pace.wait == QUICKEST


def test_a_crowd_that_comes_to_stay_is_balanced() -> None:
    pace, total = Pace(), 0
    for at in range(50):
        total += 3
        pace = looked(pace, 3, total, True, 0.0, float(at))
        assert not pace.resting

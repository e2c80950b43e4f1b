import random
from collections.abc import Callable
from statistics import mean

import pytest
from hypothesis import given, strategies as st

from pmx.core.balance import QUICKEST, SLOWEST, Pace, least_conn, looked

slots = st.dictionaries(st.integers(0, 50), st.tuples(st.integers(0, 5000), st.integers(1, 100)), min_size=1)
some = st.integers(0, 5000)
pick = st.randoms(use_true_random=False)

Rule = Callable[[dict[int, int], dict[int, int], int], dict[int, int]]


def parted(group: dict[int, tuple[int, int]]) -> tuple[dict[int, int], dict[int, int]]:
    return {slot: it[0] for slot, it in group.items()}, {slot: it[1] for slot, it in group.items()}


@given(slots, some)
def test_every_slot_that_may_serve_gets_some_and_one_gets_the_most(
    group: dict[int, tuple[int, int]], recent: int
) -> None:
    counts, weights = parted(group)
    given_ = least_conn(counts, weights, recent)
    assert given_.keys() == weights.keys()
    assert all(1 <= each <= 100 for each in given_.values())
    assert given_ == weights or max(given_.values()) == 100


@given(slots, some, pick)
def test_a_slot_that_is_closed_stays_so_and_does_not_count(
    group: dict[int, tuple[int, int]], recent: int, chance: random.Random
) -> None:
    counts, weights = parted(group)
    shut = {slot for slot in weights if chance.random() < 0.3}
    given_ = least_conn(counts, {slot: 0 if slot in shut else each for slot, each in weights.items()}, recent)
    rest = {slot: each for slot, each in weights.items() if slot not in shut}
    assert given_ == {**dict.fromkeys(shut, 0), **least_conn(counts, rest, recent)}


@given(slots, pick, some)
def test_a_slot_with_more_connections_does_not_get_more_nor_do_the_others_get_less(
    group: dict[int, tuple[int, int]], chance: random.Random, more: int
) -> None:
    counts, weights = parted(group)
    slot = chance.choice(sorted(weights))
    before = least_conn(counts, weights, 0)
    after = least_conn({**counts, slot: counts[slot] + more}, weights, 0)
    for other in weights:
        # As shares of each other: whether all is equal decides only how they are written down.
        assert after[slot] * before[other] <= before[slot] * after[other] + rounding(before, after)


def rounding(before: dict[int, int], after: dict[int, int]) -> float:
    return max(before.values()) + max(after.values())


@given(slots)
def test_of_two_alike_the_emptier_one_gets_at_least_as_much(group: dict[int, tuple[int, int]]) -> None:
    counts, _ = parted(group)
    given_ = least_conn(counts, dict.fromkeys(counts, 7), 0)
    ordered = sorted(counts, key=lambda slot: counts[slot])
    assert [given_[slot] for slot in ordered] == sorted(given_.values(), reverse=True)


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 100), min_size=1), some, some)
def test_equally_full_means_as_configured(weights: dict[int, int], level: int, recent: int) -> None:
    assert least_conn({slot: level * weight for slot, weight in weights.items()}, weights, recent) == weights


@given(slots)
def test_a_rush_means_as_configured(group: dict[int, tuple[int, int]]) -> None:
    counts, weights = parted(group)
    assert least_conn(counts, weights, 10**9) == weights


@given(st.lists(st.tuples(some, some, st.booleans(), st.floats(0, 10)), max_size=30))
def test_the_pace_keeps_its_bounds(looks: list[tuple[int, int, bool, float]]) -> None:
    pace, now = Pace(), 0.0
    for recent, others, changed, took in looks:
        pace = looked(pace, recent, recent + others, changed, took, now)
        assert QUICKEST <= pace.wait <= max(SLOWEST, 20 * took)
        assert pace.wait >= 20 * took
        assert pace.at == now + pace.wait
        assert not pace.resting or pace.wait >= SLOWEST
        now = pace.at


def configured(_: dict[int, int], weights: dict[int, int], __: int) -> dict[int, int]:
    return weights


def evenness(rule: Rule, seed: int, weights: dict[int, int], come: int, gap: float, leave: float) -> float:
    """Connections of the fullest slot, by weight, over the mean: `come` arrive, one in `gap` s; some `leave`."""
    chance = random.Random(seed)
    counts = dict.fromkeys(weights, 0)
    current, now, look, recent = weights, 0.0, QUICKEST, 0
    staying: list[int] = []
    for _ in range(come):
        now += chance.expovariate(1 / gap)
        while now >= look:
            current, recent, look = rule(counts, weights, recent), 0, look + QUICKEST
        if staying and chance.random() < leave:
            counts[staying.pop(chance.randrange(len(staying)))] -= 1
        (slot,) = chance.choices(list(current), list(current.values()))
        counts[slot] += 1
        recent += 1
        staying.append(slot)
    return max(counts[slot] / weights[slot] for slot in weights) * sum(weights.values()) / sum(counts.values())


@pytest.mark.parametrize(
    ("weights", "come", "gap", "leave", "better"),
    [
        ((1, 1), 8, 0.02, 0.0, 0.6),
        ((1, 1, 1, 1), 16, 0.02, 0.0, 0.6),
        ((1, 1, 1, 1), 16, 0.005, 0.0, 0.7),
        ((3, 1), 40, 0.02, 0.0, 0.6),
        ((1, 1, 1, 1), 100, 0.02, 0.7, 0.6),
        ((1, 1), 8, 0.0001, 0.0, 1.01),  # a burst: no look in between, so no better and no worse
        ((1, 1, 1, 1), 200, 0.0005, 0.7, 1.01),  # a rush
    ],
)
def test_connections_end_up_more_evenly_than_by_chance(
    weights: tuple[int, ...], come: int, gap: float, leave: float, better: float
) -> None:
    group = dict(enumerate(weights))
    steered, chance = (
        mean(evenness(rule, seed, group, come, gap, leave) for seed in range(150)) - 1
        for rule in (least_conn, configured)
    )
    assert steered < better * chance

"""The programs, run by an interpreter of classic BPF (Documentation/networking/filter.rst). The kernel: unit tests."""

import random
import struct
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from pmx.keeper.steering import Instruction, program

MASK = 0xFFFFFFFF
NET, RANDOM = 0xFFF00000, 0xFFFFF038
MOST = 4096
"""BPF_MAXINSNS."""

ALU: dict[int, Callable[[int, int], int]] = {
    0x00: lambda a, b: a + b,
    0x20: lambda a, b: a * b,
    0x30: lambda a, b: a // b,
    0x70: lambda a, b: a >> b,
    0x90: lambda a, b: a % b,
    0xA0: lambda a, b: a ^ b,
}
JUMPS: dict[int, Callable[[int, int], bool]] = {0x10: lambda a, b: a == b, 0x30: lambda a, b: a >= b}


def run(code: list[Instruction], packet: bytes = b"", drawn: int = 0) -> int:
    """What the kernel would return for a packet that begins with its network header. Bad code is a KeyError or so."""
    a, x, at = 0, 0, 0
    memory: dict[int, int] = {}
    while True:
        op, yes, no, k = code[at]
        at += 1
        match op & 0x07:
            case 0x00:
                a = memory[k] if op == 0x60 else drawn if k == RANDOM else _load(packet, k - NET, op)
            case 0x02:
                memory[k] = a
            case 0x04:
                a = ALU[op & 0xF0](a, x if op & 0x08 else k) & MASK
            case 0x05:
                at += k if op == 0x05 else yes if JUMPS[op & 0xF0](a, k) else no
            case 0x06:
                return a if op == 0x16 else k
            case 0x07:
                assert op == 0x07
                x = a


def _load(packet: bytes, at: int, op: int) -> int:
    length = {0x20: 4, 0x30: 1}[op]
    assert 0 <= at <= len(packet) - length
    return int.from_bytes(packet[at : at + length], "big")


def v4(source: int) -> bytes:
    return struct.pack("!B11xII", 0x45, source, 0x7F000001)


def v6(source: int) -> bytes:
    return struct.pack("!B7x16s16x", 0x60, source.to_bytes(16, "big"))


groups = st.dictionaries(st.integers(0, 65535), st.integers(1, 100), min_size=1, max_size=40)
neighbours = st.builds(
    lambda first, weights: dict(enumerate(weights, first)),
    st.integers(0, 1000),
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
)
some_groups = groups | neighbours
addresses = st.integers(0, MASK).map(v4) | st.integers(0, 2**128 - 1).map(v6)


@st.composite
def partly_closed(draw: st.DrawFn) -> tuple[list[tuple[int, int]], set[int]]:
    weights = list(draw(some_groups).items())
    closed = draw(st.sets(st.sampled_from([index for index, _ in weights]), max_size=len(weights) - 1))
    return draw(st.permutations(weights)), closed


@settings(deadline=None)
@given(partly_closed())
def test_random_meets_the_weights_exactly(group: tuple[list[tuple[int, int]], set[int]]) -> None:
    weights, closed = group
    code = program("random", weights, closed)
    chosen = {index: weight for index, weight in weights if index not in closed}
    total = sum(chosen.values())
    for base in (0, (2**32 // total - 1) * total):
        counted = Counter(run(code, drawn=base + residue) for residue in range(total))
        if len(chosen) > 1:
            assert counted == chosen
        else:
            assert set(counted) == set(chosen)


@settings(deadline=None)
@given(partly_closed(), st.lists(addresses, min_size=1, max_size=20))
def test_ip_returns_only_open_indices_and_closing_moves_only_who_must(
    group: tuple[list[tuple[int, int]], set[int]], clients: list[bytes]
) -> None:
    weights, closed = group
    everywhere, code = program("ip", weights), program("ip", weights, closed)
    for packet in clients:
        home, now = run(everywhere, packet), run(code, packet)
        assert now not in closed
        assert now in dict(weights)
        assert now == home or home in closed or len(weights) - len(closed) == 1


@given(some_groups, addresses, st.randoms(use_true_random=False))
def test_ip_does_not_depend_on_the_order_of_the_slots(
    group: dict[int, int], packet: bytes, chance: random.Random
) -> None:
    weights = list(group.items())
    before = run(program("ip", weights), packet)
    chance.shuffle(weights)
    assert run(program("ip", weights), packet) == before


def in_a_row(source: random.Random, count: int) -> list[bytes]:
    first = source.getrandbits(32) & ~0xFFFF
    return [v4(first + n) for n in range(count)]


def subnets_of_one_site(source: random.Random, count: int) -> list[bytes]:
    """Two words that count together: an exclusive or of the words alone would make them all alike."""
    site = source.getrandbits(48) << 80
    return [v6(site | n << 64 | n) for n in range(count)]


def hosts_of_one_subnet(source: random.Random, count: int) -> list[bytes]:
    first = source.getrandbits(64) << 64
    return [v6(first | n) for n in range(count)]


@pytest.mark.parametrize(
    "clients",
    [
        lambda source, count: [v4(source.getrandbits(32)) for _ in range(count)],
        lambda source, count: [v6(source.getrandbits(128)) for _ in range(count)],
        in_a_row,
        subnets_of_one_site,
        hosts_of_one_subnet,
    ],
)
@pytest.mark.parametrize("closed", [(), (1, 8), (1, 5, 8)])  # 9 over 3: substitutes need the quotient
@pytest.mark.parametrize("weights", [(1, 1), (1,) * 16, (3, 1), (45, 45, 10), (100, *[1] * 20)])
def test_ip_spreads_all_sorts_of_clients_by_weight(
    weights: tuple[int, ...], closed: tuple[int, ...], clients: Callable[[random.Random, int], list[bytes]]
) -> None:
    group = {4: 1, **dict(enumerate(weights, 10)), **dict.fromkeys(closed, 2)}
    code = program("ip", list(group.items()), closed)
    chosen = {index: weight for index, weight in group.items() if index not in closed}
    count = 2500
    counted = Counter(run(code, packet) for packet in clients(random.Random(3), count))
    expected = {index: count * weight / sum(chosen.values()) for index, weight in chosen.items()}
    chi = sum((counted[index] - wanted) ** 2 / wanted for index, wanted in expected.items())
    freedom = len(chosen) - 1
    assert chi < freedom + 4.5 * (2 * freedom) ** 0.5 + 4, counted  # about one in 100,000 by chance


@pytest.mark.parametrize("balance", ["random", "ip"])
def test_one_target_needs_no_choice(balance: str) -> None:
    assert program(balance, [(7, 3)]) == [(0x06, 0, 0, 7)]
    assert program(balance, [(7, 3), (8, 1)], {8}) == [(0x06, 0, 0, 7)]


@pytest.mark.parametrize("balance", ["random", "ip"])
def test_a_thousand_slots_fit_and_are_all_found(balance: str) -> None:
    alike = [(index, 1) for index in range(1000)]
    assert len(program(balance, alike)) < 60
    uneven = [(index, 1 + index % 3) for index in range(0, 2000, 2)]
    closed = {index for index, _ in uneven[::3]}
    code = program(balance, uneven, closed)
    assert len(code) <= MOST
    assert len(program(balance, uneven, {0})) <= MOST
    source = random.Random(1)
    found = {run(code, v6(source.getrandbits(128)), source.getrandbits(32)) for _ in range(20_000)}
    assert found == dict(uneven).keys() - closed


@pytest.mark.parametrize("balance", ["random", "ip"])
@pytest.mark.parametrize("count", [2, 100, 1000])
def test_no_jump_leaves_the_code_and_each_way_ends(balance: str, count: int) -> None:
    """As bpf_check_classic() of the kernel wants it."""
    code = program(balance, [(index * 2, 1 + index % 7) for index in range(count)], set(range(0, count, 6)))
    assert code[-1][0] in (0x06, 0x16)
    for at, (op, yes, no, k) in enumerate(code):
        assert 0 <= yes <= 255
        assert 0 <= no <= 255
        assert 0 <= k <= MASK
        assert op & 0x07 != 0x05 or at + 1 + max(k if op == 0x05 else max(yes, no), 0) < len(code)

"""What the kernel makes of the programs, on real groups. The rules themselves: tests/properties/test_steering.py."""

import errno
import os
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread

import pytest

from pmx.keeper.steering import attach, program

pytestmark = pytest.mark.usefixtures("nothing_left")

V4, V6, DUAL = "127.0.0.1", "::1", "::"
Group = list[socket.socket]


@pytest.fixture
def group() -> Iterator[Callable[[str, int], Group]]:
    """A group of so many listeners, in the order of their indices."""
    with ExitStack() as stack:

        def make(host: str, count: int) -> Group:
            made: Group = []
            for _ in range(count):
                member = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
                member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if ":" in host:
                    member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != DUAL)
                member.bind((host, made[0].getsockname()[1] if made else 0))
                member.listen(2000)
                member.setblocking(False)
                made.append(member)
            return made

        yield make


def call(host: str, members: Group, source: str = "") -> None:
    """Connect and hang up; the connection stays in the queue of whom it was given to."""
    bound = (source, 0) if source else None
    socket.create_connection((host, members[0].getsockname()[1]), source_address=bound).close()


def drain(members: Group) -> Counter[int]:
    """How many waited at each, by index. On loopback they are there when connect(2) returns."""
    counted: Counter[int] = Counter()
    for index, member in enumerate(members):
        while True:
            try:
                member.accept()[0].close()
            except BlockingIOError:
                break
            counted[index] += 1
    return counted


WAYS = pytest.mark.parametrize(("bound", "host"), [(V4, V4), (V6, V6), (DUAL, V4), (DUAL, V6)])


@WAYS
def test_random_serves_each_slot_by_its_weight_and_no_other(
    bound: str, host: str, group: Callable[[str, int], Group]
) -> None:
    members = group(bound, 4)
    attach(members[0].fileno(), program("random", [(0, 6), (1, 3), (3, 1)]))
    for _ in range(400):
        call(host, members)
    counted = drain(members)
    assert counted.total() == 400
    assert counted[2] == 0
    assert 180 < counted[0] < 300  # 240 and six standard deviations
    assert 65 < counted[1] < 175  # 120
    assert 4 < counted[3] < 76  # 40


@pytest.mark.parametrize("bound", [V4, DUAL])
def test_ip_keeps_a_client_at_its_slot_and_closing_moves_only_its_own(
    bound: str, group: Callable[[str, int], Group]
) -> None:
    members = group(bound, 4)
    clients = [f"127.0.{n}.{1 + 3 * n}" for n in range(60)]

    def homes() -> dict[str, int]:
        found = {}
        for client in clients:
            call(V4, members, client)
            call(V4, members, client)
            ((found[client], count),) = drain(members).items()
            assert count == 2
        return found

    weights = [(0, 1), (1, 1), (2, 1)]  # 3 is spare
    attach(members[0].fileno(), program("ip", weights))
    before = homes()
    assert set(before.values()) == {0, 1, 2}
    assert min(Counter(before.values()).values()) > 6  # of 20
    attach(members[0].fileno(), program("ip", weights, {1}))
    after = homes()
    assert {client for client in clients if before[client] != after[client]} == {
        client for client in clients if before[client] == 1
    }
    assert {after[client] for client in clients if before[client] == 1} == {0, 2}
    attach(members[0].fileno(), program("ip", weights))
    assert homes() == before


@pytest.mark.parametrize("bound", [V6, DUAL])
def test_ip_knows_a_client_of_version_6(bound: str, group: Callable[[str, int], Group]) -> None:
    members = group(bound, 3)
    attach(members[0].fileno(), program("ip", [(0, 1), (1, 1), (2, 1)]))
    for _ in range(20):
        call(V6, members)
    assert list(drain(members).values()) == [20]


@WAYS
def test_no_connection_goes_astray_over_hundreds_of_swaps(
    bound: str, host: str, group: Callable[[str, int], Group]
) -> None:
    members = group(bound, 3)
    chance = random.Random(5)
    for _ in range(150):
        left_out = chance.randrange(3)
        balance = chance.choice(["random", "ip"])
        if balance == "ip":
            code = program(balance, [(0, 1), (1, 2), (2, 3)], {left_out})
        else:
            code = program(balance, [(index, 1) for index in range(3) if index != left_out])
        attach(members[chance.randrange(3)].fileno(), code)
        call(host, members)
        call(host, members)
        counted = drain(members)
        assert counted.total() == 2
        assert counted[left_out] == 0


def test_swaps_while_others_connect_lose_nothing(group: Callable[[str, int], Group]) -> None:
    """Two slots take turns; the third is never named, so it must never be served."""
    members = group(V4, 3)
    attach(members[0].fileno(), program("random", [(0, 1)]))
    failed: list[OSError] = []

    def client() -> None:
        try:
            for _ in range(300):
                call(V4, members)
        except OSError as error:
            failed.append(error)

    clients = [Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    swaps = 0
    while swaps < 300 or any(thread.is_alive() for thread in clients):
        swaps += 1
        attach(members[0].fileno(), program("random", [(swaps % 2, 1)] if swaps % 3 else [(0, 1), (1, 1)]))
    for thread in clients:
        thread.join()
    assert not failed
    counted = drain(members)
    assert counted.total() == 600
    assert counted[2] == 0
    assert counted[0] > 0
    assert counted[1] > 0


@pytest.mark.parametrize("balance", ["random", "ip"])
def test_the_kernel_takes_a_program_for_a_thousand_slots(balance: str, group: Callable[[str, int], Group]) -> None:
    """It checks all of it before it takes it. Here only two of them exist, so that nothing may be asked of it."""
    members = group(V4, 2)
    attach(members[0].fileno(), program(balance, [(index, 1 + index % 7) for index in range(1000)], {3, 4}))
    attach(members[0].fileno(), program(balance, [(1, 1)]))
    call(V4, members)
    assert drain(members) == {1: 1}


def test_a_group_of_a_hundred_is_served_by_those_named(group: Callable[[str, int], Group]) -> None:
    members = group(V4, 100)
    named = [(index, 1 + index % 2) for index in range(0, 100, 3)]
    attach(members[0].fileno(), program("random", named))
    for _ in range(300):
        call(V4, members)
    counted = drain(members)
    assert counted.total() == 300
    assert counted.keys() <= dict(named).keys()
    assert len(counted) > 25  # of 34


def test_the_program_stays_when_the_socket_it_came_through_is_closed(group: Callable[[str, int], Group]) -> None:
    members = group(V4, 3)
    attach(members[2].fileno(), program("random", [(1, 1)]))
    members[2].close()
    for _ in range(10):
        call(V4, members[:2])
    assert drain(members[:2]) == {1: 10}


def test_what_cannot_be_steered_is_an_error_with_its_number() -> None:
    with socket.socket() as alone, pytest.raises(OSError, match="SO_ATTACH_REUSEPORT_CBPF") as raised:
        attach(alone.fileno(), program("random", [(0, 1), (1, 1)]))
    assert raised.value.errno == errno.EINVAL
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError) as raised:
            attach(reading, program("random", [(0, 1)]))
        assert raised.value.errno == errno.ENOTSOCK
    finally:
        os.close(reading)
        os.close(writing)

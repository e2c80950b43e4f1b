import os
import select
import socket
from collections.abc import Iterator

import pytest

from pmx.keeper.poller import Poller

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    made = [os.pipe() for _ in range(2)]
    yield made
    for ends in made:
        for fd in ends:
            os.close(fd)


def test_the_reader_of_a_readable_descriptor_is_called(pipes: list[tuple[int, int]]) -> None:
    poller, called = Poller(), list[str]()
    for name, (read_end, _) in zip("ab", pipes, strict=True):
        poller.add(read_end, lambda name=name: called.append(name))  # type: ignore[misc]
    os.write(pipes[1][1], b"x")
    poller.wait(None)
    assert called == ["b"]


def test_it_waits_no_longer_than_told(pipes: list[tuple[int, int]]) -> None:
    poller, called = Poller(), list[str]()
    poller.add(pipes[0][0], lambda: called.append("a"))
    poller.wait(0.0)
    poller.wait(0.01)
    assert called == []


def test_one_reader_may_remove_another_that_is_due(pipes: list[tuple[int, int]]) -> None:
    poller, called = Poller(), list[int]()

    def reader(number: int) -> None:
        called.append(number)
        poller.remove(pipes[1 - number][0])

    poller.add(pipes[0][0], lambda: reader(0))
    poller.add(pipes[1][0], lambda: reader(1))
    for _, write_end in pipes:
        os.write(write_end, b"x")
    poller.wait(None)
    assert len(called) == 1


def test_a_removed_descriptor_is_not_looked_at(pipes: list[tuple[int, int]]) -> None:
    poller, called = Poller(), list[str]()
    poller.add(pipes[0][0], lambda: called.append("a"))
    poller.remove(pipes[0][0])
    os.write(pipes[0][1], b"x")
    poller.wait(0.0)
    assert called == []


def test_writable_is_told_only_while_wanted(pipes: list[tuple[int, int]]) -> None:
    poller, called = Poller(), list[str]()
    write_end = pipes[0][1]
    poller.add(write_end, lambda: called.append("w"))
    poller.wait(0.0)
    assert called == []
    poller.want_writable(write_end, True)
    poller.wait(None)
    assert called == ["w"]
    poller.want_writable(write_end, False)
    poller.wait(0.0)
    assert called == ["w"]


def test_what_was_not_read_is_told_again(pipes: list[tuple[int, int]]) -> None:
    poller, called = Poller(), list[str]()
    poller.add(pipes[0][0], lambda: called.append("a"))
    os.write(pipes[0][1], b"x")
    poller.wait(None)
    poller.wait(None)
    assert called == ["a", "a"]


def test_an_event_is_not_told_to_who_got_the_number_afterwards() -> None:
    """A descriptor that is closed and another that is opened in one round have the same number: the event is not for
    the second, whose reader would wait for what never comes."""
    poller, called = Poller(), list[str]()
    first, second = os.pipe(), os.pipe()
    ends = [first, second]

    def reader(number: int) -> None:
        called.append("first")
        victim, write_end = ends[1 - number]
        poller.remove(victim)
        os.close(victim)
        heir, other_end = os.pipe()
        if heir != victim:
            os.dup2(heir, victim)
            os.close(heir)
        ends[1 - number] = victim, other_end
        poller.add(victim, lambda: called.append("heir"))
        os.close(write_end)

    for number, (read_end, write_end) in enumerate((first, second)):
        poller.add(read_end, lambda number=number: reader(number))  # type: ignore[misc]
        os.write(write_end, b"x")
    poller.wait(None)
    assert called == ["first"]
    for pair in ends:
        for fd in pair:
            os.close(fd)


def test_a_hang_up_is_told_to_the_closer_and_what_is_readable_to_the_reader() -> None:
    poller, called = Poller(), list[str]()
    ours, theirs = socket.socketpair()
    with ours:
        poller.add(ours.fileno(), lambda: called.append(ours.recv(10).decode()), select.EPOLLOUT | select.EPOLLET)
        poller.on_hang_up(ours.fileno(), lambda: called.append("closed"))
        poller.wait(0.0)
        assert called == ["closed"]  # no input: whatever else comes
        poller.remove(ours.fileno())
        poller.add(ours.fileno(), lambda: called.append(ours.recv(10).decode()))
        theirs.sendall(b"hello")
        theirs.close()
        poller.wait(None)
        assert called == ["closed", "hello"]


def test_a_fault_of_one_reader_costs_no_other_its_turn(pipes: list[tuple[int, int]]) -> None:
    """An edge is told only once, so whoever misses it would wait for ever."""
    poller, called = Poller(), list[str]()

    def fail() -> None:
        called.append("first")
        raise ValueError("nonsense")

    poller.add(pipes[0][0], fail, select.EPOLLIN | select.EPOLLET)
    poller.add(pipes[1][0], lambda: called.append("second"), select.EPOLLIN | select.EPOLLET)
    for _, write_end in pipes:
        os.write(write_end, b"x")
    with pytest.raises(ValueError, match="nonsense"):
        poller.wait(None)
    assert called == ["first", "second"]

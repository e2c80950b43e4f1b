"""Trials that behave badly: bounded in time, told as missing, and nothing of them is left."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from pmx.doctor.finding import Finding
from pmx.doctor.trial import Trial, run_all
from tests.unit.support import alive, leaving_nothing

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),  # Python 3.12, of fork
]

ENOUGH = 30.0


def test_what_they_find_comes_in_the_order_of_the_trials() -> None:
    def one() -> Iterator[Finding]:
        yield Finding("clock", "restricted", "why", "change")
        yield Finding("memory")

    def other() -> Iterator[Finding]:
        yield Finding("ports", why=str(os.getpid()))

    found = run_all([Trial(("clock", "memory"), one), Trial(("ports",), other)], ENOUGH)
    assert found[:2] == [Finding("clock", "restricted", "why", "change"), Finding("memory")]
    assert found[2].check == "ports"
    assert int(found[2].why) != os.getpid()


def test_one_that_hangs_ends_with_all_that_it_started_and_what_it_said_counts() -> None:
    ours, theirs = socket.socketpair()

    def hang() -> Iterator[Finding]:
        yield Finding("clock")
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                theirs.send(b"%d" % os.getpid())
        signal.pause()

    def good() -> Iterator[Finding]:
        yield Finding("ports")

    with ours, theirs:
        found = run_all([Trial(("clock", "memory"), hang), Trial(("ports",), good)], 1.0)
        stray = int(ours.recv(20))
    assert found == [
        Finding("clock"),
        Finding("memory", "missing", "the trial did not end within 1 s", "run pmx doctor again"),
        Finding("ports"),
    ]
    assert not alive(stray)


def test_one_that_raises_says_so() -> None:
    def raises() -> Iterator[Finding]:
        yield Finding("clock")
        raise PermissionError(1, "not today")

    found = run_all([Trial(("clock", "memory"), raises)], ENOUGH)
    assert found[0] == Finding("clock")
    assert (found[1].state, found[1].why) == ("missing", "the trial failed: [Errno 1] not today")


def test_one_that_dies_or_has_a_bug_is_an_internal_error() -> None:
    def killed() -> Iterator[Finding]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield Finding("clock")

    def bug() -> Iterator[Finding]:
        yield Finding("memory", why=str(int("no number")))

    found = run_all([Trial(("clock",), killed), Trial(("memory",), bug)], ENOUGH)
    assert [(each.state, "internal error" in each.why) for each in found] == [("missing", True)] * 2


def test_children_that_were_there_before_are_let_alone() -> None:
    blocked, end = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(end)
        os.read(blocked, 1)
        os._exit(0)
    try:
        with leaving_nothing():
            run_all([Trial(("clock",), lambda: iter([Finding("clock")]))], ENOUGH)
        assert alive(pid)
    finally:
        os.close(end)
        os.close(blocked)
        os.waitpid(pid, 0)

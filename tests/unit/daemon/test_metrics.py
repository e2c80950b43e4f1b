import os
import signal
import subprocess
import sys
import time

import pytest

from pmx.daemon.metrics import FRESH, Metrics
from tests.unit.support import read_until

pytestmark = pytest.mark.usefixtures("nothing_left")

BUSY = "print(flush=True)\nwhile True: pass"


def ticks(pid: int) -> int:
    """Processor time of a process, in clock ticks."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_busy_process_is_seen_to_be_busy() -> None:
    metrics = Metrics()
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", BUSY], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        read_until(child.stdout.fileno())
        began = time.monotonic()
        first = metrics.look([child.pid], began)[child.pid]
        assert first.memory > 1_000_000
        used = ticks(child.pid)
        while ticks(child.pid) < used + 5:
            os.sched_yield()
        second = metrics.look([child.pid], began + FRESH)[child.pid]
        span = time.monotonic() - began
        child.send_signal(signal.SIGKILL)
    # By the clock that we pretend, FRESH seconds have passed: at least five ticks, at most what really passed.
    assert 0 < second.cpu <= (span / FRESH + 0.05) * 100


def test_within_a_second_the_sample_is_shown_again() -> None:
    metrics, me = Metrics(), os.getpid()
    first = metrics.look([me], 100.0)[me]
    ballast = bytearray(50_000_000)
    assert metrics.look([me], 100.0 + FRESH / 2)[me] is first
    again = metrics.look([me], 100.0 + FRESH)[me]
    assert again is not first
    assert again.memory >= first.memory
    del ballast


def test_a_process_that_is_gone_is_left_out() -> None:
    metrics = Metrics()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as child:
        assert set(metrics.look([child.pid, os.getpid()], 0.0)) == {child.pid, os.getpid()}
    assert set(metrics.look([child.pid, os.getpid()], 10.0)) == {os.getpid()}
    assert metrics.look([child.pid], 20.0) == {}


def test_nobody_asked_for_is_forgotten() -> None:
    metrics, me = Metrics(), os.getpid()
    metrics.look([me], 0.0)
    assert metrics.look([], 1.0) == {}
    assert metrics._processes == metrics._samples == {}

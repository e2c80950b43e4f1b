import json
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from pmx.keeper import protocol as p
from pmx.keeper.brain import FIRST_DELAY, GOOD_RUN, MAX_DELAY, Brain, describe, signal_name
from tests.unit.support import await_end, await_readable, inheritable, read_until, status_mask

pytestmark = pytest.mark.usefixtures("nothing_left")

# A daemon that says how it was started, as a message, and ends when it is told anything.
DAEMON = """
import os, json, struct, sys
fd = int(sys.argv[2])
body = json.dumps({"kind": "stopping", "reason": json.dumps([os.getsid(0) == os.getpid(), sys.argv[1],
    sorted(map(int, os.listdir("/proc/self/fd")))])}).encode()
os.write(fd, struct.pack("!IB", len(body), 0) + body)
os.read(fd, 1)
"""


@pytest.fixture
def brain() -> Iterator[Brain]:
    made = Brain([sys.executable, "-I", "-S", "-c", DAEMON])
    yield made
    if made.link is not None:
        made.link.close()
    if made.pid:
        os.waitpid(made.pid, 0)


def test_the_daemon_is_started_in_a_session_of_its_own_with_its_end_of_the_link(brain: Brain) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        link = brain.start(100.0)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert brain.link is link
    assert brain.retry_at is None
    await_readable(link.fileno())
    (message,) = link.receive() or []
    assert isinstance(message, p.Stopping)
    leads, option, fds = json.loads(message.reason)
    assert leads
    assert option == "--keeper-fd"
    assert status_mask(brain.pid, "SigBlk") == 0
    # Python itself ignores these two when it starts.
    assert status_mask(brain.pid, "SigIgn") == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert len(set(fds) - inheritable()) <= 2  # the link, and the listing itself


def test_an_end_is_told_in_words_and_the_next_try_waits_longer_each_time(brain: Brain) -> None:
    delays = []
    for attempt in range(10):
        brain.pid = 1000 + attempt
        brain.started = 50.0
        assert (
            brain.ended(signal.SIGKILL, 51.25) == f"the daemon (pid {1000 + attempt}) was killed by SIGKILL after 1.2 s"
        )
        assert brain.pid == 0
        assert brain.retry_at is not None
        delays.append(round(brain.retry_at - 51.25, 6))
    assert delays[:4] == [FIRST_DELAY, 0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY


def test_a_start_that_succeeds_costs_no_delay(brain: Brain) -> None:
    brain.start(10.0)
    pid = brain.pid
    os.kill(pid, signal.SIGKILL)
    brain.ended(os.waitpid(pid, 0)[1], 10.0)
    assert brain.retry_at == 10.0 + FIRST_DELAY


def test_a_good_run_forgets_the_failures_before_it(brain: Brain) -> None:
    for _ in range(5):
        brain.ended(0, 0.0)
    brain.started = 100.0
    brain.ended(0, 100.0 + GOOD_RUN)
    assert brain.retry_at == pytest.approx(100.0 + GOOD_RUN + FIRST_DELAY)


def test_a_daemon_that_cannot_be_executed_is_tried_again_later() -> None:
    brain = Brain(["/nonexistent/python"])
    for delay in (FIRST_DELAY, 2 * FIRST_DELAY):
        with pytest.raises(FileNotFoundError):
            brain.start(10.0)
        assert brain.retry_at == 10.0 + delay
        assert brain.link is None
        assert brain.pid == 0


def test_the_link_ends_with_the_daemon(brain: Brain) -> None:
    link = brain.start(0.0)
    os.kill(brain.pid, signal.SIGKILL)
    await_end(brain.pid)
    while messages := link.receive():
        assert isinstance(messages[0], p.Stopping)
    assert messages is None


def status_of(script: str) -> int:
    read_end, write_end = os.pipe()
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, read_end)])
    os.close(write_end)
    assert read_until(read_end) == b""
    os.close(read_end)
    return os.waitpid(pid, 0)[1]


def test_a_wait_status_in_words() -> None:
    assert describe(status_of("exit 3")) == "exited with code 3"
    assert describe(status_of("kill -9 $$")) == "was killed by SIGKILL"
    assert signal_name(40) == "signal 40"
    assert signal_name(15) == "SIGTERM"

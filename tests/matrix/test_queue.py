"""What a killed worker had accepted is lost; what waited in its queue is not."""

import os
import signal
import sys

import pytest

from tests.harness import Pmx, eventually, free_port
from tests.matrix.catalogue import SERVERS_DIR
from tests.matrix.test_matrix import answers, each, replaced
from tests.matrix.traffic import Traffic, Workers

KILLS = 3


@pytest.mark.parametrize("mode", ["root" if os.geteuid() == 0 else "user"])
def test_each_kill_costs_the_one_request_that_was_being_served(pmx: Pmx, mode: str) -> None:
    port = free_port()
    pmx("start", f"{sys.executable} {SERVERS_DIR}/slow_server.py {port}", "--name", "x", "-i", "2")
    eventually(lambda: answers("127.0.0.1", port), f"port {port}")
    workers = Workers(pmx.keeper_and_daemon()[0])
    with Traffic("127.0.0.1", port, "--clients", "16") as traffic:
        old = set(pmx.pids("x"))
        traffic.until(lambda seen: each(workers.share(seen), *old), "both workers serve")
        for _ in range(KILLS):
            os.kill(pmx.pids("x")[0], signal.SIGKILL)
            traffic.until(lambda seen: replaced(pmx, workers, seen, old), "the killed worker is back and serves")
            old.update(pmx.pids("x"))
        seen = traffic.stop()
    assert sum(seen.failures.values()) <= KILLS and seen.failures.keys() <= {"reset", "eof"}, seen
    assert len(workers.share(seen)) == KILLS + 2

"""Unmodified servers, two workers behind one port: both serve, and the death of one costs only what it had accepted.

What tests.matrix.install could not install is skipped by name. In the mode root all servers are tried, in the others
a few; PMX_MATRIX_FULL=1 tries all in all, and PMX_MATRIX_MODES=user,userns only those modes.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.harness import Pmx, eventually, free_port
from tests.matrix.catalogue import FEW, SERVERS, SERVERS_DIR, Server, directory
from tests.matrix.modes import MODES
from tests.matrix.traffic import Report, Traffic, Workers

CLIENTS = 4
EACH, TOGETHER = 20, 200
"""Answers of each worker, and of both together, before one of them is killed; and EACH of its replacement."""

_FULL = bool(os.environ.get("PMX_MATRIX_FULL"))
_MODES = [mode for mode in MODES if mode in os.environ.get("PMX_MATRIX_MODES", ",".join(MODES)).split(",")]
CASES = [
    pytest.param(mode, server, id=f"{mode}-{server.name}")
    for mode in _MODES
    for server in SERVERS
    if _FULL or mode == "root" or server.name in FEW
]


@pytest.mark.parametrize(("mode", "server"), CASES)
def test_two_workers_behind_one_port(row: dict[str, str], pmx: Pmx, mode: str, server: Server) -> None:
    port = free_port()
    pmx("start", command(server, port, pmx.work, mode), "--name", "x", "-i", "2", *options(server, port))
    eventually(lambda: answers(server.host, port), f"{server.name} listens on {port}")
    workers = Workers(pmx.keeper_and_daemon()[0])
    first, second = pmx.pids("x")
    with Traffic(server.host, port, "--clients", str(CLIENTS)) as traffic:
        before = traffic.until(
            lambda seen: seen.answered >= TOGETHER and each(workers.share(seen), first, second), "both workers serve"
        )
        row |= {"requests": str(before.answered), "w1/w2": shares(workers.share(before), first, second)}
        row["errors"] = told(before)
        assert not before.failures, f"with both workers up: {before}"
        os.kill(first, signal.SIGKILL)
        killed = time.monotonic()
        traffic.until(
            lambda seen: replaced(pmx, workers, seen, {first, second}), "the killed worker is back and serves"
        )
        row["back after"] = f"{time.monotonic() - killed:.2f} s"
        after = traffic.stop()
        row["errors at kill -9"] = told(after)
    assert sum(after.failures.values()) <= CLIENTS, f"more than what was in flight at the kill: {after}"
    assert after.failures.keys() <= {"reset", "eof"}, f"not only what the killed worker had accepted: {after}"
    assert pmx.pids("x")[1] == second, "the other worker is not touched"
    pmx("delete", "x")
    assert not answers(server.host, port), "the listeners are gone with the application"


def command(server: Server, port: int, work: Path, mode: str) -> str:
    """What stands after pmx start."""
    if server.needs == "nginx":  # which has no way to give a port
        conf = (SERVERS_DIR / "nginx.conf").read_text().replace("PORT", str(port), 2)
        (work / "nginx.conf").write_text(conf if mode != "userns" else f"user root;\n{conf}")
    return server.command.format(port=port, work=work, python=sys.executable, **places())


def options(server: Server, port: int) -> list[str]:
    """A port for those who take it from PORT, and a variable."""
    given = [] if "{port}" in server.command or server.needs == "nginx" else ["--port", str(port)]
    return given + (["--env", server.env.format(**places())] if server.env else [])


def places() -> dict[str, Path]:
    there = directory()
    return {"venv": there / "venv", "npm": there / "npm", "bin": there / "bin", "servers": SERVERS_DIR}


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 10).close()
    except ConnectionRefusedError:
        return False
    return True


def each(share: dict[int, int], *workers: int) -> bool:
    return all(share.get(worker, 0) >= EACH for worker in workers)


def shares(share: dict[int, int], *workers: int) -> str:
    return "/".join(str(share.get(worker, 0)) for worker in workers)


def told(seen: Report) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(seen.failures.items())) or "0"


def replaced(pmx: Pmx, workers: Workers, seen: Report, old: set[int]) -> bool:
    """Whether a process that is now the first worker, and was none of `old`, has given EACH answers."""
    share = workers.share(seen)
    served = [worker for worker in share.keys() - old if share[worker] >= EACH]
    return bool(served) and pmx.pids("x")[0] in served

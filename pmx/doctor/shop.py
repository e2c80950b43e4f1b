"""A keeper without a daemon, for as long as a trial takes: programs are started with the keeper's own code."""

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from pmx.doctor.trial import patience
from pmx.keeper import linux, protocol as p
from pmx.keeper.poller import Poller
from pmx.keeper.programs import Programs

SERVER = """
import os, socket, sys
if "LISTEN_FDS" in os.environ:
    listener = socket.socket(fileno=3)
else:
    listener = socket.socket()
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(5)
listener.settimeout(5)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"%d\\n" % os.getpid())
    connection.close()
"""
"""Says its pid to whoever connects. It ends by itself, should nobody be left to end it."""

T = TypeVar("T")


class Shop:
    """Call `close`, which ends what was started."""

    def __init__(self) -> None:
        self._poller = Poller()
        self.said: list[p.Message] = []
        self.programs = Programs(self._poller, self.said.append, resource.getrlimit(resource.RLIMIT_NOFILE))

    def start(self, order: p.Spawn) -> int:
        """Start a program; returns its pid. Raises OSError when it cannot be executed."""
        self.programs.spawn(order)
        done = self.until(
            lambda: next((each for each in self.said if _about(each, order, (p.Spawned, p.Failed))), None), 1.0
        )
        if not isinstance(done, p.Spawned):
            raise OSError(done.error if isinstance(done, p.Failed) else "it was not executed in time")
        return done.pid

    def until(self, look: Callable[[], T], limit: float) -> T:
        """Do the keeper's work until `look` is true, for `limit` seconds, stretched, at most. Its last answer."""
        deadline = time.monotonic() + limit * patience()
        while not (found := look()) and time.monotonic() < deadline:
            self._poller.wait(0.01)
            self._reap()
        return found

    def kill(self, pid: int) -> None:
        """SIGKILL to a program, until it is buried."""
        os.kill(pid, signal.SIGKILL)
        self.programs.ended(*os.waitpid(pid, 0))

    def _reap(self) -> None:
        """Bury what ended by itself."""
        while linux.children():
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            self.programs.ended(pid, status)

    def close(self) -> None:
        self.programs.kill_all()


def python(key: str, run: int, code: str, *args: str) -> p.Spawn:
    """The order to run `code` in a Python that loads little."""
    argv = [sys.executable, "-I", "-S", "-c", code, *args]
    return p.Spawn(key, run, argv, dict(os.environ), "/", "", "")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _about(message: p.Message, order: p.Spawn, kinds: tuple[type[p.Spawned], type[p.Failed]]) -> bool:
    return isinstance(message, kinds) and (message.key, message.run) == (order.key, order.run)

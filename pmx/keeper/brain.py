"""The daemon, from the keeper's side: start it, say how it ended, and how long to wait before the next try."""

import os
import signal
import socket

from pmx.keeper.link import Link

FIRST_DELAY = 0.1
MAX_DELAY = 2.0
GOOD_RUN = 10.0
"""Seconds after which an earlier series of failures is forgotten."""


class Brain:
    """At most one daemon process at a time. `link` is the connection to it."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.pid = 0
        self.link: Link | None = None
        self.started = 0.0
        self.retry_at: float | None = None
        self._delay = FIRST_DELAY

    def start(self, now: float) -> Link:
        """Start the daemon with its end of a new connection. Raises OSError, having chosen when to try again."""
        try:
            self.link = self._spawn()
        except OSError:
            self.retry_at = now + self._next_delay()
            raise
        self.started = now
        self.retry_at = None
        return self.link

    def _spawn(self) -> Link:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.set_inheritable(theirs.fileno(), True)
            argv = [*self.argv, "--keeper-fd", str(theirs.fileno())]
            self.pid = os.posix_spawn(
                argv[0],
                argv,
                os.environ,
                setsid=True,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP),
                setsigmask=(),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return Link(ours)

    def ended(self, status: int, now: float) -> str:
        """The daemon ended: forget it, choose when to try again, and return a sentence for the log."""
        lived = now - self.started
        if lived >= GOOD_RUN:
            self._delay = FIRST_DELAY
        words = f"the daemon (pid {self.pid}) {describe(status)} after {lived:.1f} s"
        self.pid = 0
        self.retry_at = now + self._next_delay()
        return words

    def _next_delay(self) -> float:
        delay, self._delay = self._delay, min(MAX_DELAY, self._delay * 2)
        return delay


def describe(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal_name(os.WTERMSIG(status))}"
    return f"exited with code {os.WEXITSTATUS(status)}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""One request, one answer, over the control socket.

The socket reconnects by itself, so a daemon that is just being restarted is waited for. A request that a daemon took
and did not live to answer would be waited for in vain: therefore a ping goes with it and now and then after it, and
an answer from another daemon process means that the first one took the request with it.
"""

import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import zmq

from pmx import errors
from pmx.paths import Home
from pmx.wire.codec import decode_answer, encode_request
from pmx.wire.messages import Failure, Progress, Reply, Request

PING_EVERY = 2.0
SILENCE = 20.0
"""Seconds without any answer, not even to a ping, after which the daemon counts as hung."""


class Session:
    """A connection to the daemon of `home`, which must be there (`launch.ensure`). Use as a context manager."""

    def __init__(self, home: Home, alive: Callable[[], bool]) -> None:
        self._alive = alive
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.connect(f"ipc://{home.control}")
        self._numbers = itertools.count(1)
        self._daemon: int | None = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._context.term()

    def ask(self, verb: str, args: dict[str, Any] | None = None, progress: Callable[[str], None] | None = None) -> Any:
        """The result of `verb`. Raises the PmxError that the daemon answers with, or DaemonProblem."""
        number = self._send(verb, args or {})
        self._send("ping", {}, prefix="ping")
        heard = asked = time.monotonic()
        while True:
            if self._socket.poll(int(PING_EVERY * 1000)):
                heard = time.monotonic()
                done, result = self._take(number, progress)
                if done:
                    return result
            self._check(heard)
            if time.monotonic() - asked >= PING_EVERY:
                self._send("ping", {}, prefix="ping")
                asked = time.monotonic()

    def _send(self, verb: str, args: dict[str, Any], prefix: str = "") -> str:
        number = f"{prefix}{next(self._numbers)}"
        self._socket.send(encode_request(Request(number, verb, args)))
        return number

    def _take(self, number: str, progress: Callable[[str], None] | None) -> tuple[bool, Any]:
        """One answer. (True, result) when it is the one we wait for."""
        answer = decode_answer(self._socket.recv())
        if answer.id.startswith("ping"):
            self._identify(answer)
            return False, None
        if answer.id not in (number, ""):
            return False, None  # of an earlier request, given up
        match answer:
            case Reply():
                return True, answer.result
            case Failure():
                raise errors.from_wire(answer.error)
            case Progress():
                if progress is not None:
                    progress(answer.text)
                return False, None

    def _identify(self, answer: Reply | Failure | Progress) -> None:
        pid = answer.result.get("pid") if isinstance(answer, Reply) else None
        if self._daemon not in (None, pid):
            raise errors.DaemonProblem(
                "cannot tell what became of the request: the daemon was restarted while it worked on it",
                "look with pmx ls, and ask again if need be",
            )
        self._daemon = pid

    def _check(self, heard: float) -> None:
        if not self._alive():
            raise errors.DaemonProblem("the daemon ended before it answered", "look with pmx ls")
        if time.monotonic() - heard > SILENCE:
            raise errors.TookTooLong(
                f"the daemon has not answered for {SILENCE:.0f} s", "see daemon.log and keeper.log in its home"
            )

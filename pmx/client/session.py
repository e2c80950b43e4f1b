"""One request, one answer, over the control socket.

A daemon that is just being restarted is waited for. One that dies while it works on a request takes the request with
it; the connection ends at that moment, and the person is told so. A ping goes along now and then, so that a daemon
which is busy can be told from one that hangs.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pmx import errors
from pmx.client.zmtp import Socket
from pmx.paths import Home
from pmx.wire.codec import decode_answer, encode_request
from pmx.wire.messages import Failure, Progress, Reply, Request

CONNECT_WITHIN = 20.0
PING_EVERY = 5.0
SILENCE = 20.0
"""Seconds without any answer, not even to a ping, after which the daemon counts as hung."""


class Session:
    """A connection to the daemon of `home`. `alive` says whether there is a keeper to start it again."""

    def __init__(self, home: Home, alive: Callable[[], bool]) -> None:
        self._socket = _connect(home, alive)
        self._asked = 0

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, verb: str, args: dict[str, Any] | None = None, progress: Callable[[str], None] | None = None) -> Any:
        """The result of `verb`. Raises the PmxError that the daemon answers with, DaemonProblem or TookTooLong."""
        try:
            number = self._send(verb, args or {})
            silent = 0.0
            while silent < SILENCE:
                try:
                    frames = self._socket.receive(PING_EVERY)
                except TimeoutError:
                    silent += PING_EVERY
                    self._send("ping", {})
                    continue
                silent = 0.0
                answer = decode_answer(frames[-1])
                if answer.id == number or (answer.id == "" and isinstance(answer, Failure)):
                    match answer:
                        case Reply():
                            return answer.result
                        case Failure():
                            raise errors.from_wire(answer.error)
                        case Progress() if progress is not None:
                            progress(answer.text)
        except ConnectionError:
            raise errors.DaemonProblem(
                f"cannot tell what became of {verb}: the daemon died while it worked on it",
                "look with pmx ls, and ask again if need be; daemon.log in its home may say why",
            ) from None
        raise errors.TookTooLong(
            f"the daemon has not answered for {SILENCE:.0f} s", "daemon.log and keeper.log in its home may say why"
        )

    def _send(self, verb: str, args: dict[str, Any]) -> str:
        self._asked += 1
        number = str(self._asked)
        self._socket.send(encode_request(Request(number, verb, args)))
        return number


def _connect(home: Home, alive: Callable[[], bool]) -> Socket:
    """Connect, and wait for a daemon that is being started or restarted."""
    patience = time.monotonic() + CONNECT_WITHIN
    while True:
        try:
            return Socket(home.control, "DEALER", CONNECT_WITHIN)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise errors.Refused(f"cannot talk to the daemon at {home.control}: {error.strerror}") from None
            if not alive():
                raise errors.DaemonProblem("there is no daemon any more", "pmx ping starts one") from None
            if time.monotonic() > patience:
                raise errors.TookTooLong(
                    f"cannot reach the daemon within {CONNECT_WITHIN:.0f} s: {error}", "keeper.log may say why"
                ) from None
            pause(0.02)


def pause(seconds: float) -> None:
    """Wait where nothing can be waited for: a socket that does not exist yet."""
    import select

    select.select([], [], [], seconds)

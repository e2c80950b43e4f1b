"""Node's IPC channel, on the daemon's side: one JSON value a line, over a stream socket.

The keeper holds the socket, and this daemon may die at any instruction; its successor reads on from a copy. So a line
stays in the socket until it has been heard: MSG_PEEK first, then as many bytes as the line has. A successor may hear
a line twice, but never half of one. Only a line that the socket cannot hold is taken in parts. Whoever needs time to
answer a message calls `hold` while hearing it, and `resume` when it is answered.

Nothing here is set on the socket: O_NONBLOCK belongs to the open file description, which is the keeper's, too.
"""

import asyncio
import fcntl
import json
import logging
import os
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence

from pmx.errors import ResourceProblem

log = logging.getLogger("pmx.channel")

LONGEST = 64 * 1024 * 1024
"""Bytes of the longest line; a program that sends a longer one loses its channel."""
MOST_UNSENT = 8 * 1024 * 1024
"""Bytes that may wait for a program that does not read."""
GRACE = 1.0
"""Seconds that a part of a line is left in the socket. It is normally whole within microseconds; but a program that
writes by the byte fills its buffer with 300 of them, and would wait for ever for somebody to take them."""

_PEEK = 256 * 1024  # more than the kernel's default buffer (net.core.wmem_default) holds
_LONG = 64 * 1024  # a part of this length is likely all that its sender's buffer holds
_TURNS = 16
_RETRIES = 3  # as node: MAX_HANDLE_RETRANSMISSIONS

_ACK = b'{"cmd":"NODE_HANDLE_ACK"}\n'


class ChannelFull(ResourceProblem):
    """Too much waits for a program that does not read."""


class Channel:
    """One end of a channel, for the life of one run."""

    def __init__(self, fd: int, heard: Callable[[object], None], ended: Callable[[], None]) -> None:
        """Takes over `fd`. `heard` gets each value, `ended` is called once, when there is nothing more to hear."""
        self._sock = socket.socket(fileno=fd)
        self._heard = heard
        self._out = _Out(self._sock)
        self._in = _In(self._sock, self._sort, ended)

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Send now, or when the socket takes it, in order. Never waits.

        Copies of `fds` go with it; the message must be a NODE_HANDLE then, and what follows waits until the program
        has acknowledged it. Raises ChannelFull; and ValueError or TypeError for what JSON cannot hold.
        """
        # allow_nan: node's JSON.parse would throw over NaN, and that ends the program.
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if self._out.unsent + len(line) > MOST_UNSENT:
            raise ChannelFull(
                f"cannot send a message of {len(line)} bytes to the program: {self._out.unsent} bytes wait unread,"
                f" and {MOST_UNSENT} is the most",
                "its event loop is blocked, or it is stopped",
            )
        self._out.put(line, fds)

    def hold(self) -> None:
        """While a message is being heard: let it, and what follows, stay in the socket until `resume`."""
        self._in.hold()

    def resume(self) -> None:
        """The message that was held is dealt with."""
        self._in.resume()

    def close(self) -> None:
        self._in.close()
        self._out.close()
        self._sock.close()

    def _sort(self, message: object) -> None:
        """What is about the passing of descriptors is ours."""
        match message:
            case {"cmd": "NODE_HANDLE_ACK"}:
                self._out.acknowledged()
            case {"cmd": "NODE_HANDLE_NACK"}:
                self._out.missed()
            case {"cmd": "NODE_HANDLE", "msg": inner}:
                # The program waits for the answer before it sends anything else. There is no use for its descriptor,
                # which the kernel closes when the line is taken without asking for it. Answer only then: a second
                # answer, by our successor, would fail an assertion in node.
                asyncio.get_running_loop().call_soon(self._out.put_first, _ACK)
                self._heard(inner)
            case _:
                self._heard(message)


class _In:
    """Lines out of the socket."""

    def __init__(self, sock: socket.socket, heard: Callable[[object], None], ended: Callable[[], None]) -> None:
        self._sock = sock
        self._heard = heard
        self._ended = ended
        self._part = bytearray()  # the beginning of a line that is too long for the socket
        self._held = False
        self._unread = 0  # bytes of the line that is held
        self._complained = False
        self._patience: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        # Edge-triggered, which asyncio has not: a part of a line stays in the socket, and must not wake us again.
        self._edges = select.epoll(1)
        self._edges.register(sock.fileno(), select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        self._loop.add_reader(self._edges.fileno(), self._wake)

    def hold(self) -> None:
        self._held = True

    def resume(self) -> None:
        if not self._held or self._edges.closed:
            return
        self._held = False
        if self._unread:
            self._take(self._unread)
            self._unread = 0
        self._loop.call_soon(self.read)

    def close(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if not self._edges.closed:
            self._loop.remove_reader(self._edges.fileno())
            self._edges.close()

    def read(self) -> None:
        """Hear what is there, within bounds."""
        again = self._loop.call_soon(self.read)  # no edge will tell of what is left, even when hearing fails
        for _ in range(_TURNS):
            if self._edges.closed or self._held or not self._turn():
                again.cancel()
                return

    def _wake(self) -> None:
        self._edges.poll(0)  # takes the edge
        self.read()

    def _turn(self) -> bool:
        """Hear the lines that can be seen; whether there may be more."""
        try:
            data = self._sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a connection reset: the program ended with something unread
        if not data:
            self._end()
            return False
        start = 0
        while (stop := data.find(b"\n", start) + 1) > 0:
            if not self._line(data[start : stop - 1], stop - start):
                return False
            start = stop
        return start > 0 or self._leave(data)

    def _line(self, line: bytes, length: int) -> bool:
        """Hear one line, and take its `length` bytes from the socket; false when they stay for now."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        try:
            value = json.loads((self._part + line).decode())
        except (ValueError, RecursionError) as error:
            self._complain(line, error)
            self._take(length)
            return True
        try:
            self._heard(value)
        finally:
            if not self._edges.closed and not self._held:
                self._take(length)
        self._unread = length if self._held else 0
        return not self._edges.closed and not self._held

    def _leave(self, part: bytes) -> bool:
        """Leave a part of a line for the rest to come, if the rest can come; whether there is more to see now."""
        there = struct.unpack("i", fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)))[0]
        if len(part) < _LONG and there <= len(part):  # more is there when a descriptor is between: a peek ends at it
            if self._patience is None:
                self._patience = self._loop.call_later(GRACE, self._take_part)
            return False
        self._keep(part)
        return not self._edges.closed

    def _take_part(self) -> None:
        """The rest of the line has not come: there may be no room for it."""
        self._patience = None
        part = self._sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if b"\n" not in part:
            self._keep(part)
        self.read()

    def _keep(self, part: bytes) -> None:
        if len(self._part) + len(part) > LONGEST:
            log.error("giving up the channel of a program: it sends a line of more than %d bytes", LONGEST)
            self._end()
            return
        self._part += part
        _discard(self._sock, len(part))

    def _take(self, length: int) -> None:
        _discard(self._sock, length)
        self._part.clear()

    def _end(self) -> None:
        self.close()
        self._ended()

    def _complain(self, line: bytes, why: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("ignoring what is no JSON from a program's channel: %r (%s); further ones in silence",
                        line[:80], why)  # fmt: skip


def _discard(sock: socket.socket, length: int) -> None:
    """Take `length` bytes that were seen. Descriptors among them are closed by the kernel, as nobody asks for them."""
    while length > 0 and (taken := sock.recv(length, socket.MSG_DONTWAIT)):
        length -= len(taken)


class _Item:
    """A line on its way, with the descriptors that go with its first byte."""

    def __init__(self, line: bytes, fds: Sequence[int]) -> None:
        self.line = line
        self.fds = [os.dup(fd) for fd in fds]
        self.sent = 0
        self.tries = 0

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class _Out:
    """Lines into the socket. While one with descriptors is not acknowledged the others wait, as in node itself."""

    def __init__(self, sock: socket.socket) -> None:
        self.unsent = 0  # bytes
        self._sock = sock
        self._first: deque[_Item] = deque()  # acknowledgements, which wait for nothing
        self._waiting: deque[_Item] = deque()
        self._current: _Item | None = None
        self._handed: _Item | None = None  # sent, not acknowledged
        self._loop = asyncio.get_running_loop()

    def put(self, line: bytes, fds: Sequence[int]) -> None:
        self._waiting.append(_Item(line, fds))
        self.unsent += len(line)
        self._flush()

    def put_first(self, line: bytes) -> None:
        self._first.append(_Item(line, ()))
        self.unsent += len(line)
        self._flush()

    def acknowledged(self) -> None:
        if self._handed is not None:
            self._handed.close()
            self._handed = None
            self._flush()

    def missed(self) -> None:
        """The descriptor did not arrive: the program has no room for it (EMFILE). Try again, then give up."""
        item, self._handed = self._handed, None
        if item is None:
            return
        item.tries += 1
        if item.tries <= _RETRIES:
            item.sent = 0
            self._waiting.appendleft(item)
            self.unsent += len(item.line)
        else:
            log.error("cannot pass a socket to a program: it has no descriptor left (ulimit -n)")
            item.close()
        self._flush()

    def close(self) -> None:
        """Forget what was not sent."""
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock)
        for item in (self._current, self._handed, *self._first, *self._waiting):
            if item is not None:
                item.close()
        self._current = self._handed = None
        self._first.clear()
        self._waiting.clear()
        self.unsent = 0

    def _flush(self) -> None:
        while (item := self._next()) is not None:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(item.fds)}i", *item.fds))]
            ancillary = rights if item.fds and not item.sent else []
            try:
                sent = self._sock.sendmsg([memoryview(item.line)[item.sent :]], ancillary, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self.close()  # nobody reads any more; that there is nothing to hear is told elsewhere
                return
            self._went(item, sent)
        self._loop.remove_writer(self._sock)

    def _next(self) -> _Item | None:
        if self._current is None and self._first:
            self._current = self._first.popleft()
        if self._current is None and self._waiting and self._handed is None:
            self._current = self._waiting.popleft()
        return self._current

    def _went(self, item: _Item, sent: int) -> None:
        item.sent += sent
        self.unsent -= sent
        if item.sent == len(item.line):
            self._current = None
            if item.fds:
                self._handed = item

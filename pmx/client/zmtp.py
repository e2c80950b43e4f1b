"""A ZeroMQ client socket over ipc, in pure Python: ZMTP 3.0 with the NULL mechanism (rfc.zeromq.org/spec/23).

Why not pyzmq here: importing it takes 30-45 ms, more than half of a whole `pmx ls` (docs/decisions/0003). The daemon
uses libzmq, and the tests talk from here to it, so the two agree. One difference is welcome: when the daemon dies,
this socket says so at once instead of connecting again behind our back.

    greeting    FF 00*8 7F | 03 00 | "NULL" to 20 bytes | as-server 00 | 00*31          64 bytes, both ways at once
    command     flags 04 (06 long) | size | name-length name | properties
    message     flags 00 (02 long, +01 more follows) | size (1 byte, or 8 when long) | body
"""

import socket
import struct

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_MORE, _LONG, _COMMAND = 1, 2, 4
_CHUNK = 256 * 1024


class Socket:
    """A connected DEALER or SUB socket. Raises OSError when there is no one, ConnectionError when they went away."""

    def __init__(self, path: str, kind: str, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        self._frames: list[bytes] = []  # of a message whose last one has not come yet
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            self._socket.sendall(_GREETING + _command(b"READY", {b"Socket-Type": kind.encode(), b"Identity": b""}))
            self._shake_hands()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, *frames: bytes) -> None:
        """Send one message of one or more frames."""
        last = len(frames) - 1
        data = b"".join(_frame(_MORE if number < last else 0, frame) for number, frame in enumerate(frames))
        self._socket.sendall(data)

    def receive(self, timeout: float) -> list[bytes]:
        """The frames of the next message. Raises TimeoutError after `timeout` seconds of silence, and loses nothing."""
        self._socket.settimeout(timeout)
        while True:
            flags, body = self._next()
            if flags & _COMMAND:
                continue  # PING, SUBSCRIBE and the like need no answer from us
            self._frames.append(body)
            if not flags & _MORE:
                frames, self._frames = self._frames, []
                return frames

    def close(self) -> None:
        self._socket.close()

    def _shake_hands(self) -> None:
        greeting = self._exactly(64)
        if greeting[:1] != b"\xff" or greeting[10] < 3 or not greeting[12:32].startswith(b"NULL\0"):
            raise ConnectionError("the other side does not speak ZMTP 3 with the NULL mechanism")
        flags, body = self._next()
        if not flags & _COMMAND or not body.startswith(b"\x05READY"):
            raise ConnectionError(f"the other side refused the connection: {body[:80]!r}")

    def _next(self) -> tuple[int, bytes]:
        """Flags and body of the next frame. What has been read of an incomplete one is kept."""
        self._fill(2)
        flags = self._buffer[0]
        head, size = 2, self._buffer[1]
        if flags & _LONG:
            self._fill(9)
            head, size = 9, struct.unpack_from("!Q", self._buffer, 1)[0]
        self._fill(head + size)
        body, self._buffer = self._buffer[head : head + size], self._buffer[head + size :]
        return flags, body

    def _exactly(self, count: int) -> bytes:
        self._fill(count)
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _fill(self, count: int) -> None:
        """Read until at least `count` bytes are in the buffer."""
        parts = [self._buffer]
        have = len(self._buffer)
        try:
            while have < count:
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise ConnectionError("the daemon closed the connection")
                parts.append(data)
                have += len(data)
        finally:
            self._buffer = b"".join(parts)


def _frame(flags: int, body: bytes) -> bytes:
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return struct.pack("!BQ", flags | _LONG, len(body)) + body


def _command(name: bytes, properties: dict[bytes, bytes]) -> bytes:
    body = bytes((len(name),)) + name
    for key, value in properties.items():
        body += bytes((len(key),)) + key + struct.pack("!I", len(value)) + value
    return _frame(_COMMAND, body)

"""The keeper's end of the connection to the daemon. Never blocks, never raises for a daemon that went away."""

import array
import os
import socket

from pmx.keeper.protocol import Decoder, Message, ProtocolError, encode

_CHUNK = 256 * 1024


class Link:
    """One connection: lives as long as one daemon process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._decoder = Decoder()
        self._unsent: list[tuple[bytes, list[int]]] = []

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def backlogged(self) -> bool:
        """Whether something waits for the socket to become writable."""
        return bool(self._unsent)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Send now, or when the socket takes it. `fds` are duplicated, the caller keeps its own."""
        self._unsent.append((encode(message, len(fds)), [os.dup(fd) for fd in fds]))
        self.flush()

    def flush(self) -> None:
        """Send as much as the socket takes. What a dead daemon does not take is dropped by `close`."""
        while self._unsent:
            data, fds = self._unsent[0]
            try:
                sent = self._sock.sendmsg([data], _rights(fds))
            except BlockingIOError:
                return
            except OSError:
                return  # end of file will say the same to the reader, in order
            for fd in fds:
                os.close(fd)
            if sent == len(data):
                self._unsent.pop(0)
            else:
                self._unsent[0] = (data[sent:], [])

    def receive(self) -> list[Message] | None:
        """The messages that have arrived; None at the end of the connection. Raises ProtocolError."""
        try:
            data, _, flags, _ = self._sock.recvmsg(_CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        if flags & socket.MSG_CTRUNC:
            # No message of version 1 has any in this direction; without room for them the kernel has closed them.
            raise ProtocolError("the daemon sent descriptors")
        return [message for message, _ in self._decoder.feed(data, [])]

    def close(self) -> None:
        for _, fds in self._unsent:
            for fd in fds:
                os.close(fd)
        self._unsent.clear()
        self._sock.close()


def _rights(fds: list[int]) -> "list[tuple[int, int, array.array[int]]]":
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []

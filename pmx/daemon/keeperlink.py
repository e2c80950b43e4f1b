"""The daemon's end of the connection to the keeper."""

import array
import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

from pmx.keeper.protocol import MAX_FDS, Decoder, Message, ProtocolError, encode

log = logging.getLogger("pmx.keeperlink")

Handler = Callable[[Message, list[int]], None]

_CHUNK = 256 * 1024


class KeeperLink:
    """One connection, for the life of the daemon. Sending never waits."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._decoder = Decoder()
        self._unsent: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()

    def listen(self, handler: Handler, closed: Callable[[str], None]) -> None:
        """From now on each message goes to `handler`; `closed` is called once, when the keeper is gone."""
        self._handler = handler
        self._closed = closed
        self._loop.add_reader(self._sock, self._receive)

    def send(self, message: Message) -> None:
        """Send now, or when the socket takes it, in order."""
        self._unsent.append(encode(message))
        if len(self._unsent) == 1:
            self._flush()

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent[0])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except OSError:
                self._unsent.clear()  # the end of file on the other direction tells
                break
            if sent == len(self._unsent[0]):
                self._unsent.popleft()
            else:
                self._unsent[0] = self._unsent[0][sent:]
        self._loop.remove_writer(self._sock)

    def _receive(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_CHUNK, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(str(error))
            return
        if not data:
            self._lost("the keeper closed the connection")
            return
        try:
            messages = self._decoder.feed(data, _descriptors(ancillary))
        except ProtocolError as error:
            self._lost(str(error))
            return
        for message, fds in messages:
            try:
                self._handler(message, fds)
            except Exception:  # a fault over one message must not cost the others; it is on record
                log.exception("cannot take in %s", type(message).__name__)

    def _lost(self, why: str) -> None:
        self._loop.remove_reader(self._sock)
        self._closed(why)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)

"""The primary's part of node's cluster protocol, for one worker (lib/internal/cluster/primary.js, shared handles).

`cluster.isWorker` is true in a program with NODE_UNIQUE_ID and a channel; it asks here for each socket that it would
listen on, and gets one of the application's listeners. While it waits for the answer the channel is held: should this
daemon die, the next one hears the question again. Node drops a second answer to one question.
"""

import errno as e
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from pmx.core import nodeipc
from pmx.core.nodeipc import Query

log = logging.getLogger("pmx.nodecluster")

_NO_IPV6 = (e.EAFNOSUPPORT, e.EADDRNOTAVAIL, e.EINVAL)


class Line(Protocol):
    """What is needed of a Channel."""

    def send(self, message: object, fds: Sequence[int] = ()) -> None: ...
    def hold(self) -> None: ...
    def resume(self) -> None: ...


class NodeCluster:
    """Answers one worker. `ask` wants a listener, by its URL; `granted` or `refused` is the answer, at any time."""

    def __init__(self, channel: Line, ask: Callable[[str], None], listening: Callable[[str], None]) -> None:
        self._channel = channel
        self._ask = ask
        self._listening = listening
        self._open: dict[str, str] = {}  # node's key of a socket: URL
        self._query: Query | None = None  # the question that waits
        self._asked = ""

    def heard(self, message: object) -> bool:
        """Whether `message` is node's own, and so not for the user; if so, do what it says."""
        if not isinstance(message, dict) or not nodeipc.internal(message):
            return False
        match message:
            case {"cmd": "NODE_CLUSTER", "act": "queryServer"}:
                query = nodeipc.query(message)
                if query is not None:
                    self._answer(query)
            case {"cmd": "NODE_CLUSTER", "act": "listening"}:
                self._listens(message)
            case {"cmd": "NODE_CLUSTER", "act": "close", "key": str(key)}:
                self._open.pop(key, None)
            case {"cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": int(seq)}:
                self._channel.send({"cmd": "NODE_CLUSTER", "ack": seq})  # it disconnects only then
        return True

    def granted(self, url: str, fd: int) -> None:
        """The listener for `url`. Takes over `fd`; an answer to no question is dropped."""
        try:
            query = self._answered(url)
            if query is not None:
                self._hand(query, fd, url)
        finally:
            os.close(fd)
        self._go_on()

    def refused(self, url: str, errno: int) -> None:
        """There is no listener for `url`; the program sees why."""
        query = self._answered(url)
        if query is None:
            return
        others = nodeipc.urls(query)
        if url == others[0] and len(others) > 1 and errno in _NO_IPV6:
            self._want(query, others[1])
        else:
            self._deny(query, errno)
        self._go_on()

    def disconnect(self) -> None:
        """Tell the worker to close its listeners, finish what it has begun, and disconnect: it ends by itself then.

        It needs no handler for a signal for that.
        """
        self._channel.send({"cmd": "NODE_CLUSTER", "act": "disconnect"})

    def _answer(self, query: Query) -> None:
        urls = nodeipc.urls(query)
        if query.port == 0 and query.fd == -1:
            self._give_any_port(query)
        elif urls:
            self._want(query, urls[0])
        else:
            if query.udp:
                log.warning("UDP port %d is not shared: let the program bind it with exclusive: true", query.port)
            self._deny(query, e.ENOTSUP)

    def _want(self, query: Query, url: str) -> None:
        if url in self._open.values():
            self._deny(query, e.EADDRINUSE)  # as the kernel would say to a program that listens there already
            return
        self._query, self._asked = query, url
        self._channel.hold()
        self._ask(url)

    def _answered(self, url: str) -> Query | None:
        if url != self._asked:
            return None
        query, self._query, self._asked = self._query, None, ""
        return query

    def _go_on(self) -> None:
        if self._query is None:
            self._channel.resume()

    def _give_any_port(self, query: Query) -> None:
        """Port 0: each worker its own, so no listener of the application's."""
        try:
            sock = _at_any_port(query)
        except OSError as error:
            self._deny(query, error.errno or e.EINVAL)
            return
        with sock:
            url = nodeipc.urls(query._replace(port=sock.getsockname()[1], address=sock.getsockname()[0]))
            self._hand(query, sock.fileno(), url[0] if url else "")

    def _hand(self, query: Query, fd: int, url: str) -> None:
        os.set_blocking(fd, False)  # node 18 accepts until EAGAIN, and a blocking listener freezes it
        key = str(query.seq)
        self._open[key] = url
        reply = {"cmd": "NODE_CLUSTER", "errno": 0, "key": key, "ack": query.seq, "data": query.data}
        kind = "dgram.Native" if query.udp else "net.Native"
        self._channel.send({"cmd": "NODE_HANDLE", "type": kind, "msg": reply}, (fd,))

    def _deny(self, query: Query, errno: int) -> None:
        self._channel.send(
            {"cmd": "NODE_CLUSTER", "errno": -errno, "key": str(query.seq), "ack": query.seq, "data": query.data}
        )

    def _listens(self, message: dict[str, object]) -> None:
        query = nodeipc.query(message)
        urls = nodeipc.urls(query) if query is not None else ()
        if urls:
            self._listening(next((url for url in urls if url in self._open.values()), urls[0]))


def _at_any_port(query: Query) -> socket.socket:
    """A socket bound to a port of the kernel's choice, as libuv makes it. Raises OSError."""
    if query.address or query.udp:
        return _bound(query, query.address)
    try:
        return _bound(query, "::")
    except OSError:
        return _bound(query, "0.0.0.0")


def _bound(query: Query, host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if query.udp else socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, query.v6only)
        sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock

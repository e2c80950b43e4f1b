"""Log files as they are and as they grow.

The files are the truth. The event bus says that one has grown; when it says nothing (the daemon is being restarted)
the files are looked at once a second all the same, so nothing is missed and nothing comes twice.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from pmx.client.session import pause
from pmx.client.zmtp import Socket
from pmx.paths import Home
from pmx.wire import topics

LOOK_EVERY = 1.0
_CHUNK = 256 * 1024
LONGEST_LINE = 1024 * 1024
"""Bytes of a line without an end that are held back; beyond it the line is shown in pieces."""


class Source(NamedTuple):
    """One log file of one instance; `stream` is out or error."""

    id: int
    name: str
    stream: str
    path: str


class Line(NamedTuple):
    source: Source
    text: str


class Tail:
    """One file: its last lines, then what is appended. Survives truncation and replacement by rename."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._fd = -1
        self._partial = b""

    def last(self, count: int) -> list[Line]:
        """The last `count` complete lines; following goes on behind them."""
        if not self._open():
            return []
        size = os.lseek(self._fd, 0, os.SEEK_END)
        blocks: list[bytes] = []
        newlines = 0
        position = size
        while position > 0 and newlines <= count:
            step = min(_CHUNK, position)
            position -= step
            block = os.pread(self._fd, step, position)
            newlines += block.count(b"\n")
            blocks.append(block)
        whole, end, self._partial = b"".join(reversed(blocks)).rpartition(b"\n")
        lines = whole.split(b"\n") if end else []
        return [self._line(line) for line in lines[-count:]] if count else []

    def more(self) -> Iterator[Line]:
        """Complete lines that were appended since the last look."""
        if self._fd < 0 and not self._open():
            return
        yield from self._rest()
        if self._replaced():
            yield from self._flush()
            os.close(self._fd)
            self._fd = -1
            if self._open():
                yield from self._rest()

    def close(self) -> Iterator[Line]:
        """The line without an end, if there is one."""
        yield from self._flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        try:
            self._fd = os.open(self.source.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def _rest(self) -> Iterator[Line]:
        if os.fstat(self._fd).st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)  # truncated: begin again
            self._partial = b""
        while data := os.read(self._fd, _CHUNK):
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                yield self._line(line)
            if len(self._partial) > LONGEST_LINE:
                yield from self._flush()

    def _replaced(self) -> bool:
        try:
            there = os.stat(self.source.path)
        except OSError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _flush(self) -> Iterator[Line]:
        if self._partial:
            yield self._line(self._partial)
            self._partial = b""

    def _line(self, raw: bytes) -> Line:
        return Line(self.source, raw.removesuffix(b"\r").decode("utf-8", "replace"))


class Bell:
    """Rings when something happened on the bus: a log grew, or a process changed."""

    def __init__(self, home: Home) -> None:
        self._path = home.events
        self._socket: Socket | None = None

    def wait(self) -> bool:
        """Wait for the next events, at most a second. Returns whether a process may have changed meanwhile."""
        if self._socket is None and not self._connect():
            pause(LOOK_EVERY)
            return False
        try:
            return self._listen()
        except ConnectionError:
            self.close()  # the daemon is being restarted; its successor may know other programs
            return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> bool:
        try:
            self._socket = Socket(self._path, "SUB", LOOK_EVERY)
            for topic in (topics.LOG, topics.PROCESS):
                self._socket.send(b"\x01" + topic.encode())  # ZMTP 3.0: a subscription is a message
        except OSError:
            self.close()
            return False
        return True

    def _listen(self) -> bool:
        assert self._socket is not None
        changed = False
        try:
            timeout = LOOK_EVERY
            while True:
                topic, *_ = self._socket.receive(timeout)
                changed = changed or topic.startswith(topics.PROCESS.encode())
                timeout = 0.001  # take what has come meanwhile, then look at the files
        except TimeoutError:
            return changed

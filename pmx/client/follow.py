"""Log files as they are and as they grow.

The files are the truth. The event bus says that one has grown; when it says nothing (the daemon is being restarted)
the files are looked at once a second all the same, so nothing is missed and nothing comes twice.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import zmq

from pmx.paths import Home
from pmx.wire import topics

LOOK_EVERY_MS = 1000
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
        whole, _, self._partial = b"".join(reversed(blocks)).rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
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
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        for topic in (topics.LOG, topics.PROCESS):
            self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._socket.connect(f"ipc://{home.events}")

    def wait(self) -> bool:
        """Wait for the next events, at most a second. Returns whether a process changed among them."""
        changed = False
        if self._socket.poll(LOOK_EVERY_MS):
            while self._socket.poll(0):
                topic, *_ = self._socket.recv_multipart()
                changed = changed or topic.startswith(topics.PROCESS.encode())
        return changed

    def close(self) -> None:
        self._socket.close()
        self._context.term()

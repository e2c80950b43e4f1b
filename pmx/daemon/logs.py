"""Log pipes to log files, by splice(2): the bytes never enter Python (design section 6).

A `Stream` is one pipe and the file it goes to. A file that cannot be written must not hurt the program: its output
is read and dropped, the bytes are counted, and each further chunk tries the file again.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable

from pmx.errors import ProgramProblem, ResourceProblem

log = logging.getLogger("pmx.logs")

_CHUNK = 1024 * 1024
_TURNS = 8
"""Chunks per wake-up, so that one flood cannot starve the loop."""
NOTE_EVERY = 0.05
"""Seconds between two notes about one growing file: readers want to be woken, not flooded."""


class Stream:
    """One log pipe on its way into one file."""

    def __init__(self, name: str, pipe: int, path: str, grew: Callable[[], None]) -> None:
        self.name = name
        self.path = path
        self.dropped = 0  # bytes
        self._pipe = pipe
        self._file = -1
        self._grew = grew
        self._note: asyncio.TimerHandle | None = None
        self._plain = False  # the file takes no splice (a terminal, a fifo): copy
        asyncio.get_running_loop().add_reader(pipe, self.pump)

    def pump(self) -> None:
        """Move what is in the pipe, within bounds."""
        try:
            for _ in range(_TURNS):
                if self._move() == 0:
                    break
        except BlockingIOError:
            pass  # empty
        self._note_growth()

    def drain(self) -> None:
        """Move everything that is in the pipe now."""
        try:
            while self._move():
                pass
        except BlockingIOError:
            pass
        self._note_growth()

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if self._note is not None:
            self._note.cancel()
        if self._file >= 0:
            os.close(self._file)

    def _move(self) -> int:
        """Move one chunk; returns the bytes taken from the pipe. Raises BlockingIOError when it is empty."""
        try:
            if self._file < 0:
                self._file = open_log(self.path)
            if self._plain:
                return self._copy()
            # Not O_APPEND, which splice refuses (EINVAL): go to the end each time, so a truncated file is no trouble.
            os.lseek(self._file, 0, os.SEEK_END)
            return os.splice(self._pipe, self._file, _CHUNK)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ESPIPE) and not self._plain and self._file >= 0:
                self._plain = True
                return self._copy()
            return self._drop(error)

    def _copy(self) -> int:
        data = os.read(self._pipe, 65536)
        os.write(self._file, data)
        return len(data)

    def _drop(self, why: OSError) -> int:
        if self.dropped == 0:
            log.error("cannot write %s: %s; the output is dropped until it can be", self.path, why.strerror)
        taken = len(os.read(self._pipe, 65536))
        self.dropped += taken
        return taken

    def _note_growth(self) -> None:
        if self._note is None:
            self._note = asyncio.get_running_loop().call_later(NOTE_EVERY, self._noted)
            self._grew()

    def _noted(self) -> None:
        self._note = None


class Logs:
    """All streams. `grew` is called with (instance id, stream) when a file has grown."""

    def __init__(self, grew: Callable[[int, str], None]) -> None:
        self._streams: dict[str, Stream] = {}
        self._grew = grew

    def attach(self, name: str, fd: int, path: str) -> None:
        """Read the pipe called `name` into `path` from now on. Takes over `fd`."""
        try:
            # A description of our own, so that O_NONBLOCK stays ours (keeper/fdstore.py).
            pipe = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(fd)
        instance_id, stream = parse_name(name)
        self._streams[name] = Stream(name, pipe, path, lambda: self._grew(instance_id, stream))

    def has(self, name: str) -> bool:
        return name in self._streams

    def drain(self, names: tuple[str, ...]) -> None:
        """Put into the files what the program has written until now."""
        for name in names:
            if name in self._streams:
                self._streams[name].drain()

    def dropped(self, names: tuple[str, ...]) -> int:
        return sum(self._streams[name].dropped for name in names if name in self._streams)

    def detach(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.drain()
            stream.close()

    def close(self) -> None:
        for name in list(self._streams):
            self.detach(name)


def pipe_name(instance_id: int, stream: str) -> str:
    """The keeper's name for a log pipe; `stream` is out or error."""
    return f"log:{instance_id}:{stream}"


def parse_name(name: str) -> tuple[int, str]:
    """Instance id and stream of a log pipe's name. Raises ValueError."""
    _, instance_id, stream = name.split(":")
    return int(instance_id), stream


def open_log(path: str) -> int:
    """Open `path` for writing, with its directory made if need be. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o600)


def check_log(path: str) -> None:
    """Raise unless `path` can be written as a log file. Leaves an empty file where there was none."""
    try:
        os.close(open_log(path))
    except OSError as error:
        problem = ResourceProblem if error.errno in (errno.ENOSPC, errno.EMFILE, errno.EDQUOT) else ProgramProblem
        raise problem(
            f"cannot write the log {path}: {error.strerror}", "choose another file with --output and --error"
        ) from None


def tail(path: str, lines: int, limit: int = 16384) -> list[str]:
    """The last `lines` lines of a log file, from at most its last `limit` bytes; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []

"""Named descriptors. A name outlives the daemon, so a log pipe or a channel goes on where it was.

A log pipe is kept as one descriptor open for reading and writing: it is reader and writer at once, so a program
never gets EPIPE and a reader never sees an early end of file, whoever dies. Everybody who uses it opens
/proc/self/fd/N anew: O_NONBLOCK belongs to an open file description, and neither the daemon's nor one that a
program sets (node does) may leak into the others.
"""

import errno
import fcntl
import os

PIPE_SIZE = 256 * 1024
"""Bytes. Node drops what does not fit when it exits, so 64 KiB is too little; fcntl(2) allows 1 MiB unprivileged."""


class FdStore:
    """Descriptors by name. Owns them: `drop` and `close` close."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def names(self) -> list[str]:
        return sorted(self._fds)

    def get(self, name: str) -> int:
        """The descriptor called `name`. Raises OSError (EBADF): making it failed, and the keeper's log says why."""
        try:
            return self._fds[name]
        except KeyError:
            raise OSError(errno.EBADF, f"there is no descriptor called {name}") from None

    def open(self, name: str) -> int:
        """The descriptor called `name`; a log pipe is made if it is not there. Raises OSError (EBADF, EMFILE)."""
        if name not in self._fds and name.startswith("log:"):
            self._fds[name] = _new_pipe()
        return self.get(name)

    def keep(self, name: str, fd: int) -> None:
        """Take over `fd`."""
        self.drop(name)
        self._fds[name] = fd

    def __contains__(self, name: str) -> bool:
        return name in self._fds

    def drop(self, name: str) -> None:
        fd = self._fds.pop(name, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        for name in self.names():
            self.drop(name)


def _new_pipe() -> int:
    read_end, write_end = os.pipe()
    try:
        both = os.open(f"/proc/self/fd/{write_end}", os.O_RDWR)
    finally:
        os.close(read_end)
        os.close(write_end)
    try:
        fcntl.fcntl(both, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # EPERM past pipe-user-pages-soft (pipe(7)): the default size serves
    return both

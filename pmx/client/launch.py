"""Is there a daemon? If not, start keeper and daemon, and wait until they are ready."""

import fcntl
import os
import select
import sys

from pmx import errors
from pmx.paths import Home, check_ours, create

READY_WITHIN = 20.0

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ALREADY = "already running"
_KEPT = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "NOTIFY_SOCKET")
"""What keeper and daemon get of the environment. Not the rest: it may hold secrets of whoever came first."""


def is_running(home: Home) -> bool:
    """Whether a keeper holds the home: it has an exclusive lock on the directory for as long as it lives."""
    try:
        fd = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


_begun: list[int] = []
"""The pipe on which a keeper that `begin` started says that it is ready."""


def begin(home: Home) -> None:
    """Start keeper and daemon if there are none, without waiting: there may be something to do meanwhile.

    Raises Refused for a home that is not ours, ResourceProblem when there is no process to be had.
    """
    check_ours(home)
    if _begun or is_running(home):
        return
    create(home)
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    _begun.append(read_end)
    try:
        _start_keeper(home, write_end)
    finally:
        os.close(write_end)


def ensure(home: Home) -> None:
    """Return when a daemon is there. Raises as `begin` does, and DaemonProblem when it does not come up."""
    begin(home)
    if not _begun:
        return
    read_end = _begun.pop()
    try:
        problem = _await_ready(read_end)
    finally:
        os.close(read_end)
    if problem not in ("", _ALREADY):
        last = _last_line(home.daemon_log)
        raise errors.DaemonProblem(
            f"cannot start the daemon: {problem}" + (f"\n  {last}" if last else ""),
            f"see {home.daemon_log} and {home.keeper_log}",
        )


def _start_keeper(home: Home, ready_fd: int) -> None:
    keeper = [sys.executable, "-I", "-S", f"{_PACKAGE}/keeper/__main__.py"]
    argv = [*keeper, "--home", home.root, "--ready-fd", str(ready_fd)]
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
    try:
        # Fork and leave: the keeper must be nobody's child that waits for children.
        if (pid := os.fork()) == 0:
            try:
                os.posix_spawn(argv[0], argv, kept)
            finally:
                os._exit(0)  # whatever happened: there must be no second command line; the pipe tells
    except OSError as error:
        raise errors.ResourceProblem(f"cannot start the daemon: {error.strerror}", "try again later") from None
    os.waitpid(pid, 0)


def _await_ready(fd: int) -> str:
    """What the keeper says: empty for ready, else the problem."""
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([fd], [], [], READY_WITHIN)[0]:
            raise errors.TookTooLong(f"the daemon is not ready after {READY_WITHIN:.0f} s", "see its daemon.log")
        data = os.read(fd, 4096)
        if not data:
            return text.decode("utf-8", "replace").strip() or "the keeper ended before it was ready"
        text += data
    return text.decode("utf-8", "replace").strip()


def _last_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:].strip().rpartition("\n")[2]
    except OSError:
        return ""

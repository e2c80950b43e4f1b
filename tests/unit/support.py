"""What tests of real processes and sockets need: waiting for an event, and finding what was left behind."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT = 30.0 * float(os.environ.get("PMX_TEST_FACTOR", "1"))
"""Seconds after which an event is taken not to come. Nothing waits this long unless it fails."""

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def descriptors(pid: int | str = "self") -> dict[int, str]:
    """Open descriptors and what they are."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass  # the one that lists the directory
    return found


def inheritable() -> set[int]:
    """What we were started with and hand down, 0 to 2 included."""
    return {fd for fd in descriptors() if os.get_inheritable(fd)}


def children() -> list[int]:
    """Our children, zombies included, whichever thread started them."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        found += map(int, _read(f"/proc/self/task/{task}/children").split())  # empty when the thread ended meanwhile
    return found


def children_of(pid: int) -> list[int]:
    """The children of a process with one thread, zombies included."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def processes_of(text: str) -> dict[int, str]:
    """Living processes, without ourselves, that have `text` in their command line or environment."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            known = _read(f"/proc/{entry}/cmdline") + b"\0" + _read(f"/proc/{entry}/environ")
            if os.fsencode(text) in known:
                found[int(entry)] = _read(f"/proc/{entry}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace")
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def await_readable(fd: int, limit: float = LIMIT) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(limit * 1000), f"nothing to read within {limit} s"


def await_end(pid: int, limit: float = LIMIT) -> None:
    """Until the process, a child or not, has ended. It is not reaped."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await_readable(fd, limit)
    finally:
        os.close(fd)


def alive(pid: int) -> bool:
    """Whether `pid` exists and is no zombie."""
    state = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return bool(state) and state[0] not in (b"Z", b"X")


def read_until(fd: int, end: bytes = b"\n") -> bytes:
    """What comes from `fd` until it ends in `end`, or ends."""
    data = b""
    while not data.endswith(end):
        await_readable(fd)
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        data += chunk
    return data


def status_mask(pid: int | str, field: str) -> int:
    """A mask of signals in /proc/PID/status, SigBlk, SigIgn or SigCgt; without 32 and 33, which are the C library's."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith(f"{field}:")) & ~(0b11 << 31)


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Fails when what is done inside leaves a descriptor open or a child behind."""
    import gc

    open_before, children_before = descriptors(), set(children())
    yield
    gc.collect()
    left = {fd: what for fd, what in descriptors().items() if open_before.get(fd) != what}
    orphans = set(children()) - children_before
    for pid in orphans:  # fail once, not in every test that follows
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left, f"descriptors left open: {left}"
    assert not orphans, f"children left behind: {orphans}"

"""The seam to the kernel: what the standard library has no name for. Each function is a system call or a /proc file."""

import ctypes
import os

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """From now on orphaned descendants become our children (prctl(2), Linux 3.4), so none can escape unseen."""
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_name(name: str) -> None:
    """The name that ps and top show; at most 15 bytes count (prctl(2))."""
    libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def children() -> list[int]:
    """Pids of our children, zombies included (proc(5): /proc/PID/task/TID/children, with CONFIG_PROC_CHILDREN)."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:
        return _children_by_scan(me)


def _children_by_scan(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and parent_of(int(entry)) == parent:
            found.append(int(entry))
    return found


def parent_of(pid: int) -> int:
    """The parent of `pid`; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def environ_has(pid: int, entry: bytes) -> bool:
    """Whether the environment that `pid` was executed with has `entry` (``NAME=value``)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return entry in file.read().split(b"\0")
    except OSError:
        return False  # gone, or not ours to read


def group_exists(pgid: int) -> bool:
    """Whether any process, zombies included, is in the group (kill(2) with signal 0)."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

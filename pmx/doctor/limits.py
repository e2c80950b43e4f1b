"""What there is room for: descriptors, processes, memory, disk. Read where it cannot be tried without using it up."""

import ctypes
import errno
import fcntl
import os
import resource
import select
import socket
import stat
from collections.abc import Iterator

from pmx import paths
from pmx.doctor.finding import Finding
from pmx.doctor.trial import patience
from pmx.errors import PmxError
from pmx.keeper import linux
from pmx.units import format_size

LIMIT_CHECKS = ("descriptors", "processes", "memory", "clock")
HOME_CHECKS = ("home",)
WATCH_CHECKS = ("watch",)

_EACH = 5
"""Descriptors that a program takes in keeper and daemon: two pipes, its filter, its listener, its channels."""
_FEW_PROGRAMS, _FEW_PROCESSES = 200, 100
_LITTLE_MEMORY = 256 << 20
_LITTLE_ROOM, _NO_ROOM = 100 << 20, 1 << 20
_FEW_WATCHES = 8192
_REMOTE = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs")
_SLOW_CLOCKS = ("acpi_pm", "hpet", "jiffies", "pit", "refined-jiffies")
_CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


def limits() -> Iterator[Finding]:
    yield _descriptors()
    yield _processes()
    yield _memory()
    yield _clock()


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # as the keeper does
    programs = max(0, hard - 50) // _EACH
    why = f"the hard limit of {hard} open files serves about {programs} programs"
    if programs >= _FEW_PROGRAMS:
        return Finding("descriptors", why=why)
    return Finding(
        "descriptors",
        "restricted" if programs > 1 else "missing",
        why,
        "ulimit -Hn 65536 as root, LimitNOFILE=65536 in the systemd unit, docker run --ulimit nofile=65536:65536",
    )


def _processes() -> Finding:
    """Root is not bound by RLIMIT_NPROC (getrlimit(2)); a cgroup binds everybody."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    left = soft - _tasks_of(os.getuid()) if soft != resource.RLIM_INFINITY and os.geteuid() != 0 else _FEW_PROCESSES
    if left < _FEW_PROCESSES:
        why = f"of {soft} processes and threads that this user may have, {max(0, left)} are left"
        return Finding("processes", "restricted", why, "ulimit -u, or LimitNPROC= in the systemd unit")
    most = cgroup_limit("pids", "pids.max", "pids.max")
    if most is not None and most < 2 * _FEW_PROCESSES:
        why = f"the cgroup allows {most} processes and threads"
        return Finding("processes", "restricted", why, "TasksMax= in the systemd unit, docker run --pids-limit")
    return Finding("processes")


def _tasks_of(uid: int) -> int:
    count = 0
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == uid:
                count += len(os.listdir(f"/proc/{entry}/task"))
        except OSError:
            pass  # it ended meanwhile
    return count


def _memory() -> Finding:
    """A limit is a remark; it is a restriction where it is low, or where the machine promises no more than it has."""
    figures = _meminfo()
    free = figures.get("CommitLimit", 0) - figures.get("Committed_AS", 0)
    if _number("/proc/sys/vm/overcommit_memory") == 2 and free < _LITTLE_MEMORY:
        why = f"vm.overcommit_memory is 2, and only {format_size(max(0, free))} may still be promised: fork(2) can fail"
        return Finding("memory", "restricted", why, "sysctl -w vm.overcommit_memory=0, or add swap")
    limit = cgroup_limit("memory", "memory.max", "memory.limit_in_bytes")
    if limit is not None and limit < figures.get("MemTotal", limit + 1):
        why = f"programs and pmx share {format_size(limit)}, the limit of their cgroup; the kernel kills one beyond it"
        if limit >= _LITTLE_MEMORY:
            return Finding("memory", why=why)
        return Finding("memory", "restricted", why, "MemoryMax= in the systemd unit, docker run --memory")
    if figures.get("MemAvailable", _LITTLE_MEMORY) + figures.get("SwapFree", 0) < _LITTLE_MEMORY:
        why = f"only {format_size(figures['MemAvailable'])} are free, and no swap beyond it"
        return Finding("memory", "restricted", why, "end something, or add swap")
    return Finding("memory")


def _meminfo() -> dict[str, int]:
    """Bytes by name (proc(5): meminfo); empty when it cannot be read."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            pairs = [line.split(":") for line in file]
    except OSError:
        return {}
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def cgroup_limit(controller: str, v2: str, v1: str, proc: str = "/proc", root: str = "/sys/fs/cgroup") -> int | None:
    """The lowest limit of our cgroup and those above it, by the name of its file; None where there is none."""
    files = _cgroup_files(controller, v2, v1, proc, root)
    return min((value for file in files if (value := _number(file)) is not None), default=None)


def _cgroup_files(controller: str, v2: str, v1: str, proc: str, root: str) -> Iterator[str]:
    try:
        with open(f"{proc}/self/cgroup", encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for number, controllers, path in lines:
        if number == "0" and not controllers:
            top, name = root, v2
        elif controller in controllers.split(","):
            top, name = f"{root}/{controller}", v1
        else:
            continue
        path = os.path.normpath(path)  # /../x for one outside of our namespace
        while path != "/":
            yield f"{top}{path}/{name}"
            path = os.path.dirname(path)
        yield f"{top}/{name}"


def _number(path: str) -> int | None:
    """The number in a file; None for other text (max), or no file."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _clock() -> Finding:
    try:
        with open(_CLOCK, encoding="ascii") as file:
            source = file.read().strip()
    except OSError:
        return Finding("clock")
    if source not in _SLOW_CLOCKS:
        return Finding("clock")
    why = f"the clock source is {source}: each look is a system call that takes a microsecond or more"
    return Finding(
        "clock", "restricted", why, "boot with tsc=reliable where the hardware allows, or another kind of VM"
    )


# ── the home ────────────────────────────────────────────────────────────────────────────────────────────────────


def home(it: paths.Home, scratch: str) -> Iterator[Finding]:
    """`scratch` is a new directory in the home, or where the home would be made; empty when there can be none."""
    yield _home(it, scratch)


def _home(it: paths.Home, scratch: str) -> Finding:
    elsewhere = "set PMX_HOME to a directory of your own, on a local disk"
    try:
        paths.check_ours(it)
    except PmxError as error:
        return Finding("home", "missing", error.message, error.hint)
    if not scratch:
        return Finding("home", "missing", f"nothing can be written in or for {it.root}", elsewhere)
    kind = file_system(scratch)
    try:
        _lock_and_listen(scratch)
    except OSError as error:
        why = f"{it.root} is on {kind}, where locks or sockets fail ({errno.errorcode.get(error.errno or 0, error)})"
        return Finding("home", "missing", why, elsewhere)
    disk = os.statvfs(scratch)
    room = disk.f_bavail * disk.f_frsize
    if room < _LITTLE_ROOM or (disk.f_files and not disk.f_favail):
        why = f"there is room for {format_size(room)} and {disk.f_favail} files: logs will soon be dropped"
        return Finding("home", "missing" if room < _NO_ROOM else "restricted", why, f"free some, or {elsewhere}")
    if kind in _REMOTE:
        return Finding("home", "restricted", f"{it.root} is on {kind}: when the server is away, pmx waits", elsewhere)
    if it.run != it.root:
        return Finding("home", why=f"its path is too long for a socket, so these are in {it.run}")
    return Finding("home")


def _lock_and_listen(scratch: str) -> None:
    """As keeper and daemon do. Raises OSError."""
    os.chdir(scratch)  # so that the path of the socket is short
    ours, theirs = (os.open(".", os.O_RDONLY | os.O_DIRECTORY) for _ in range(2))
    try:
        fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(theirs, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # as it must be
    else:
        raise OSError(errno.ENOLCK, "two processes can hold one lock")
    finally:
        os.close(ours)
        os.close(theirs)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("socket")
        os.chmod("socket", 0o600)
        listener.listen(1)
        client.settimeout(patience())
        client.connect("socket")
    if stat.S_IMODE(os.stat("socket").st_mode) != 0o600:
        raise OSError(errno.EPERM, "modes of files are not kept")


def file_system(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The kind of the file system that `path` is on (proc(5): mountinfo); empty when it is not known."""
    best, kind = "", ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                point = before.split(" ")[4].encode("ascii", "surrogateescape").decode("unicode_escape")
                if len(point) >= len(best) and f"{path}/".startswith(f"{point.rstrip('/')}/"):
                    best, kind = point, after.split(" ")[0]
    except (OSError, ValueError, IndexError):
        return ""
    return kind


def watch(scratch: str) -> Iterator[Finding]:
    """See a file come into being (inotify(7))."""
    fd = linux.libc.inotify_init1(os.O_CLOEXEC)
    made = 0x100  # IN_CREATE
    if fd < 0 or linux.libc.inotify_add_watch(fd, os.fsencode(scratch), made) < 0:
        number = ctypes.get_errno()
        name = {errno.EMFILE: "max_user_instances", errno.ENOSPC: "max_user_watches"}.get(number, "")
        change = f"sysctl -w fs.inotify.{name}=65536" if name else "allow inotify(7) in the profile of the container"
        yield Finding("watch", "restricted", f"no inotify to be had ({errno.errorcode.get(number, number)})", change)
        return
    os.close(os.open(f"{scratch}/watched", os.O_WRONLY | os.O_CREAT, 0o600))
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    most = _number("/proc/sys/fs/inotify/max_user_watches")
    if not poll.poll(500 * patience()):
        why = "a new file was not told of: this file system does not take part in inotify(7)"
        yield Finding("watch", "restricted", why, "keep what is to be watched on a local disk")
    elif most is not None and most < _FEW_WATCHES:
        why = f"only {most} directories may be watched"
        yield Finding("watch", "restricted", why, "sysctl -w fs.inotify.max_user_watches=65536")
    else:
        yield Finding("watch")

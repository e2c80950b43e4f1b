"""Families of processes, log pipes, and the two ways in which programs talk to pmx."""

import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
from collections.abc import Iterator

from pmx.doctor.finding import NOT_TRIED, Finding
from pmx.doctor.shop import Shop, python
from pmx.doctor.trial import patience
from pmx.keeper import linux
from pmx.keeper.fdstore import PIPE_SIZE, FdStore

FAMILY_CHECKS = ("family", "ending")
PIPE_CHECKS = ("survival", "logs")
NOTIFY_CHECKS = ("notify",)
NODE_CHECKS = ("node",)

_PROFILE = "allow {} in the seccomp profile of the container"


# ── families ────────────────────────────────────────────────────────────────────────────────────────────────────


def families() -> Iterator[Finding]:
    yield _family()
    yield _ending()


def _family() -> Finding:
    """A child that leaves a child of its own behind: it must become ours, and be seen."""
    try:
        linux.become_subreaper()
    except OSError as error:
        what = "prctl(2) with PR_SET_CHILD_SUBREAPER"
        why = f"{what} is refused ({_name(error)}), and the keeper does not start without it"
        return Finding("family", "missing", why, _PROFILE.format(what))
    orphan = _orphan()
    try:
        if linux.parent_of(orphan) != os.getpid():
            why = "a process whose parent died did not become our child"
            return Finding("family", "missing", why, "use a kernel that keeps to prctl(2), PR_SET_CHILD_SUBREAPER")
        if orphan not in linux.children():
            why = "a child of ours is in no list of /proc"
            return Finding("family", "missing", why, "mount /proc without hidepid")
    finally:
        os.kill(orphan, signal.SIGKILL)
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        why = "/proc/PID/task/TID/children is not there: all of /proc is read instead, which takes longer"
        return Finding("family", "restricted", why, "use a kernel with CONFIG_PROC_CHILDREN")
    return Finding("family")


def _orphan() -> int:
    """The pid of a process that waits for a signal, and whose parent has died."""
    told, tell = os.pipe()
    if (parent := os.fork()) == 0:
        try:
            if (pid := os.fork()) == 0:
                signal.alarm(5)  # should nobody be left to end it
                signal.pause()
            os.write(tell, b"%d" % pid)
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    os.close(tell)
    try:
        return int(os.read(told, 20))
    finally:
        os.close(told)


def _ending() -> Finding:
    blocked, end = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.close(end)
            os.read(blocked, 1)
        finally:
            os._exit(0)
    try:
        seen = os.pidfd_open(pid)
    except OSError as error:
        why = f"pidfd_open(2) is refused ({_name(error)})"
        return Finding("ending", "missing", why, f"use Linux 5.3 or newer, and {_PROFILE.format('pidfd_open(2)')}")
    finally:
        os.close(end)
    poll = select.poll()
    poll.register(seen, select.POLLIN)
    if poll.poll(1000 * patience()):
        return Finding("ending")
    return Finding("ending", "missing", "a pidfd says nothing of the end of its process", "report it, with the kernel")


# ── pipes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pipes(scratch: str) -> Iterator[Finding]:
    """The pipe of a log, its two users, and the file that it goes to, in the directory `scratch`."""
    store = FdStore()
    try:
        kept = store.open("log:0:out")
        writer, reader = (_anew(kept, flags) for flags in (os.O_RDWR, os.O_RDONLY | os.O_NONBLOCK))
        os.write(writer, b"before\n")
        os.close(reader)
        os.write(writer, b"after\n")
        reader = _anew(kept, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        why = f"a pipe cannot be opened anew through /proc/self/fd ({_name(error)})"
        change = "mount /proc, and see whether a security module (AppArmor, SELinux) is in the way"
        yield Finding("survival", "missing", why, change)
        yield Finding("logs", "missing", why, change)
        return
    yield Finding("survival")
    yield _logs(reader, f"{scratch}/log", fcntl.fcntl(kept, fcntl.F_GETPIPE_SZ))


def _anew(fd: int, flags: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", flags)


def _logs(reader: int, path: str, size: int) -> Finding:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.splice(reader, file, 1 << 20)
    except OSError as error:
        if error.errno == errno.EINVAL:  # as daemon/logs.py takes it
            why = "this file system takes no splice(2): output is copied, which costs more"
            return Finding("logs", "restricted", why, "set PMX_HOME to a directory on a local disk")
        why = f"splice(2) into a log file fails ({_name(error)}): the output of programs would be dropped"
        return Finding("logs", "missing", why, _PROFILE.format("splice(2)"))
    if os.pread(file, 100, 0) != b"before\nafter\n":
        return Finding("logs", "missing", "splice(2) moved other bytes than were written", "report it, with the kernel")
    if size < PIPE_SIZE:
        why = (
            f"a pipe holds only {size // 1024} KiB, not {PIPE_SIZE // 1024}: node drops what does not fit when it exits"
        )
        change = f"sysctl -w fs.pipe-max-size=1048576 fs.pipe-user-pages-soft=0; or {_PROFILE.format('F_SETPIPE_SZ')}"
        return Finding("logs", "restricted", why, change)
    return Finding("logs")


# ── what programs say ───────────────────────────────────────────────────────────────────────────────────────────

_SAYS_READY = """
import os, socket
address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", "\\0" + address[1:])
"""


def notify() -> Iterator[Finding]:
    shop = Shop()
    try:
        pid = shop.start(python("n", 1, _SAYS_READY)._replace(notify=True))
        with socket.socket(fileno=os.dup(shop.programs.store.get("notify:n"))) as sock:
            sock.settimeout(patience())
            data, said, _, _ = sock.recvmsg(100, socket.CMSG_SPACE(12))
        senders = [struct.unpack("=iII", each)[:2] for _, kind, each in said if kind == socket.SCM_CREDENTIALS]
        if (data, senders) == (b"READY=1", [(pid, os.getuid())]):
            yield Finding("notify")
            return
        why = f"a datagram came, but its sender is not known to the kernel ({senders})"
    except OSError as error:
        why = f"nothing is heard on an abstract socket with SO_PASSCRED: {error}"
    finally:
        shop.close()
    yield Finding(
        "notify", "missing", why, "the container, or a security module, must allow abstract AF_UNIX sockets (unix(7))"
    )


def node() -> Iterator[Finding]:
    """A message of a real node, through the channel that the keeper makes."""
    found = shutil.which("node")
    if found is None:
        yield Finding("node", why=f"{NOT_TRIED}no node here")
        return
    shop = Shop()
    try:
        order = python("node", 1, "")._replace(argv=[found, "-e", "process.send({doctor: 1})"], channel=True)
        shop.start(order)
        with socket.socket(fileno=os.dup(shop.programs.store.get("ipc:node:1"))) as sock:
            sock.settimeout(2.5 * patience())
            said = sock.recv(1000)
        heard = json.loads(said or b"null") == {"doctor": 1}
        why = f"{found} said {said!r}, which is no message"
    except (OSError, ValueError) as error:
        heard, why = False, f"{found} did not send its message: {error}"
    finally:
        shop.close()
    yield Finding("node") if heard else Finding("node", "missing", why, "see whether this node starts at all")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))

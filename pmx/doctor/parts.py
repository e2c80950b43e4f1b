"""Port sharing part by part, on a process that is only forked: which part is it that fails, and what helps."""

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from pmx.doctor.trial import patience
from pmx.keeper import seccomp, tracee

_COMES_WITHIN = 0.5
"""Seconds for the forked process to come to its bind(2)."""
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"
_PROFILE = "allow {} in the seccomp profile of the container (docker run --security-opt seccomp=FILE)"


class Broken(NamedTuple):
    """`part` is a key of _WORDS."""

    part: str
    number: int

    def words(self, uid: int = -1) -> tuple[str, str]:
        """Why sharing fails, and what to change; `uid` as for `broken_part`."""
        why, change = _WORDS[self.part](self.number, uid)
        return f"{why} ({errno.errorcode.get(self.number, self.number)})", change


def broken_part(uid: int = -1) -> Broken | None:
    """The first part that fails with a process that becomes `uid`, if it is not -1; None when all work."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            if (pid := os.fork()) == 0:
                _bind_under_filter(theirs, uid)
        ours.settimeout(_COMES_WITHIN * patience())
        broken = _meet(ours)
    os.waitpid(pid, 0)  # without the descriptor of its filter, its bind(2) fails at once
    return broken


def _bind_under_filter(report: socket.socket, uid: int) -> NoReturn:
    part = "filter"
    try:
        sock = socket.socket()
        told = seccomp.install()
        socket.send_fds(report, [b"trap"], [told])
        os.close(told)
        part = "identity"
        if uid != -1:
            os.setgroups([])
            os.setuid(uid)
        part = "answer"
        sock.bind(("127.0.0.1", 0))
        report.send(b"port %d" % sock.getsockname()[1])
    except OSError as error:
        report.send(b"%s %d" % (part.encode(), error.errno or 0))
    finally:
        os._exit(0)


def _meet(ours: socket.socket) -> Broken | None:
    try:
        data, fds, _, _ = socket.recv_fds(ours, 100, 1)
    except OSError as error:
        return Broken("filter", error.errno or errno.ETIME)
    if not fds:
        return _said(data)
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        try:
            broken = _answer(fds[0], given)
        finally:
            os.close(fds[0])
        try:
            data = ours.recv(100)
        except OSError as error:
            return broken or Broken("answer", error.errno or errno.ETIME)
        if broken is None and data != b"port %d" % given.getsockname()[1]:
            return _said(data)
        # Who could not become the other user never came to its bind(2).
        return _said(data) if data.startswith(b"identity") else broken


def _said(data: bytes) -> Broken:
    part, _, number = data.decode().partition(" ")
    return Broken(part, int(number)) if part in _WORDS else Broken("injection", errno.EBADF)


def _answer(fd: int, given: socket.socket) -> Broken | None:
    """Do with the bind(2) told on `fd` what the trap does, one step after the other."""
    part = "notification"
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not [events for _, events in poll.poll(_COMES_WITHIN * patience() * 1000) if events & select.POLLIN]:
            return Broken(part, errno.ETIME)
        call = seccomp.receive(fd)
        task, theirs = call.task, call.descriptor
        part = "descriptors"
        tracee.socket_inode(task, theirs)
        tracee.flags(task, theirs)
        part = "type"
        os.getxattr(f"/proc/{task}/fd/{theirs}", "system.sockprotoname")
        part = "memory"
        tracee.memory(task, call.args[1], 16)
        part = "injection"
        seccomp.replace_fd(fd, call, given.fileno(), theirs, False)
        part = "answer"
        seccomp.answer(fd, call)
    except OSError as error:
        return Broken(part, error.errno or 0)
    return None


# ── what it means ───────────────────────────────────────────────────────────────────────────────────────────────


def _filter(number: int, _: int) -> tuple[str, str]:
    if seccomp.HERE is None:
        return f"the numbers of the system calls of {os.uname().machine} are not known to pmx", "use x86-64 or aarch64"
    if number == errno.EBUSY:
        return (
            "somebody further out, perhaps a pmx that runs this one, answers for ports already",
            "start pmx outside of it, or give the program of the outer pmx --no-share",
        )
    if number in (errno.EINVAL, errno.ENOSYS):
        return (
            "this kernel has no seccomp user notification",
            "use Linux 5.9 or newer with CONFIG_SECCOMP_FILTER; a sandbox with a kernel of its own may not have it",
        )
    what = "seccomp(2) with SECCOMP_FILTER_FLAG_NEW_LISTENER"
    return f"{what} is refused", _PROFILE.format(f"{what}, which Docker's own profile does,")


def _identity(_: int, uid: int) -> tuple[str, str]:
    return f"no process here may become uid {uid}", "start pmx as root, outside of a user namespace that maps one user"


def _notification(_: int, __: int) -> tuple[str, str]:
    return (
        "the filter was taken, but nothing is told of bind(2)",
        _PROFILE.format("ioctl(2) on the descriptor of a seccomp filter"),
    )


def _looking(what: str) -> Callable[[int, int], tuple[str, str]]:
    def words(_: int, uid: int) -> tuple[str, str]:
        scope = _yama()
        if uid != -1:
            return (
                f"{what} of a process of another user cannot be read without CAP_SYS_PTRACE",
                "docker run --cap-add SYS_PTRACE, CapabilityBoundingSet=CAP_SYS_PTRACE in the systemd unit; or run pmx"
                " as that user",
            )
        if scope >= 2:
            return (
                f"{what} of a process cannot be read, as kernel.yama.ptrace_scope is {scope}",
                "sysctl -w kernel.yama.ptrace_scope=1"
                + (", or give pmx CAP_SYS_PTRACE" if scope == 2 else ": from 3 only a boot leads back"),
            )
        return (
            f"{what} of our own child cannot be read",
            "see whether a security module (AppArmor, SELinux) or the mount of /proc forbids ptrace(2), and whether"
            " everybody may read the interpreter's file",
        )

    return words


def _type(_: int, __: int) -> tuple[str, str]:
    return (
        "the kernel does not tell the type of a socket (the extended attribute system.sockprotoname)",
        _PROFILE.format("getxattr(2)"),
    )


def _injection(number: int, _: int) -> tuple[str, str]:
    if number == errno.EINVAL:
        return "a socket cannot be put into another process", "use Linux 5.9 or newer (SECCOMP_IOCTL_NOTIF_ADDFD)"
    return (
        "a socket cannot be put into another process",
        _PROFILE.format("ioctl(2) with SECCOMP_IOCTL_NOTIF_ADDFD"),
    )


def _no_answer(_: int, __: int) -> tuple[str, str]:
    return (
        "the answer to bind(2) does not arrive",
        _PROFILE.format("ioctl(2) with SECCOMP_IOCTL_NOTIF_SEND"),
    )


def _yama() -> int:
    """0: no restriction, or no Yama (Documentation/admin-guide/LSM/Yama.rst)."""
    try:
        with open(_YAMA, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


_WORDS: dict[str, Callable[[int, int], tuple[str, str]]] = {
    "filter": _filter,
    "identity": _identity,
    "notification": _notification,
    "descriptors": _looking("the descriptors"),
    "type": _type,
    "memory": _looking("the memory"),
    "injection": _injection,
    "answer": _no_answer,
}

"""Ask to be told before a program's bind(2), listen(2) and two setsockopt(2) happen: seccomp_unotify(2).

The filter is installed by the child between fork and exec, and holds for all its descendants. Every other system
call runs as before: since Linux 5.11 the kernel knows from a bitmap that the filter lets it pass.
"""

import ctypes
import errno
import fcntl
import os
import struct
from typing import NamedTuple

from pmx.keeper.linux import libc


class Numbers(NamedTuple):
    """What differs between machines: AUDIT_ARCH and the numbers of system calls."""

    arch: int
    seccomp: int
    bind: int
    listen: int
    setsockopt: int


NUMBERS = {
    "x86_64": Numbers(0xC000003E, 317, 49, 50, 54),
    "aarch64": Numbers(0xC00000B7, 277, 200, 201, 208),
}
HERE = NUMBERS.get(os.uname().machine)

IPV6_V6ONLY = (41, 26)
SO_REUSEPORT = (1, 15)

_LOAD, _EQUAL, _RETURN, _SHIFT, _TO_X, _OR_X = 0x20, 0x15, 0x06, 0x64, 0x07, 0x4C
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_ARCH, _NUMBER, _LEVEL, _OPTION = 4, 0, 24, 32  # offsets in struct seccomp_data; the low words, little endian

_NEW_LISTENER, _SPEC_ALLOW, _WAIT_KILLABLE = 8, 4, 32
_RECEIVE, _SEND, _IS_VALID, _ADD_FD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_CONTINUE = 1
_NOTICE = struct.Struct("=QIIiIQ6Q")


class Call(NamedTuple):
    """A system call that waits for an answer. `task` is a thread id."""

    id: int
    task: int
    number: int
    args: tuple[int, ...]

    @property
    def descriptor(self) -> int:
        """The socket that the call is about."""
        return self.args[0] & 0xFFFFFFFF


def filter_program(n: Numbers) -> list[tuple[int, int, int, int]]:
    """The classic BPF program: what is not asked about is allowed."""
    return [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 0, 11, n.arch),  # a 32-bit program on a 64-bit kernel has other numbers: it is let pass
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 10, 0, n.bind),
        (_EQUAL, 9, 0, n.listen),
        (_EQUAL, 0, 7, n.setsockopt),
        (_LOAD, 0, 0, _LEVEL),
        (_SHIFT, 0, 0, 16),
        (_TO_X, 0, 0, 0),
        (_LOAD, 0, 0, _OPTION),
        (_OR_X, 0, 0, 0),
        (_EQUAL, 2, 0, IPV6_V6ONLY[0] << 16 | IPV6_V6ONLY[1]),
        (_EQUAL, 1, 0, SO_REUSEPORT[0] << 16 | SO_REUSEPORT[1]),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]


def install() -> int:
    """Put the filter on this process; returns the descriptor on which its calls are told. Raises OSError.

    Root keeps programs that change their identity working (sudo, ping); anybody else must promise no_new_privs first.
    EBUSY: a filter further out has a listener already, as when pmx runs a pmx.
    """
    if HERE is None:
        raise OSError(errno.ENOSYS, f"the system call numbers of {os.uname().machine} are not known")
    code = b"".join(struct.pack("=HBBI", *line) for line in filter_program(HERE))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    flags = _NEW_LISTENER | _SPEC_ALLOW
    fd = _seccomp(flags | _WAIT_KILLABLE, program)
    if fd == -errno.EACCES:
        _no_new_privileges()
        fd = _seccomp(flags | _WAIT_KILLABLE, program)
    if fd == -errno.EINVAL:
        fd = _seccomp(flags, program)  # before Linux 5.19
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd))
    return fd


def _seccomp(flags: int, program: "ctypes.Array[ctypes.c_char]") -> int:
    assert HERE is not None
    set_mode_filter = 1
    fd: int = libc.syscall(ctypes.c_long(HERE.seccomp), ctypes.c_long(set_mode_filter), ctypes.c_long(flags), program)
    return fd if fd >= 0 else -ctypes.get_errno()


def _no_new_privileges() -> None:
    pr_set_no_new_privs = 38
    libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0)


def receive(fd: int) -> Call:
    """The next call. Only when `fd` is readable: it would wait. Raises OSError (ENOENT: the task is gone)."""
    buffer = bytearray(_NOTICE.size)
    fcntl.ioctl(fd, _RECEIVE, buffer, True)
    id_, task, _, number, _, _, *args = _NOTICE.unpack(buffer)
    return Call(id_, task, number, tuple(args))


def still_there(fd: int, call: Call) -> bool:
    """Whether the task still waits: what was read in /proc under its id was then really about it."""
    try:
        fcntl.ioctl(fd, _IS_VALID, struct.pack("=Q", call.id))
    except OSError:
        return False
    return True


def replace_fd(fd: int, call: Call, ours: int, theirs: int, close_on_exec: bool) -> None:
    """Make the program's descriptor `theirs` the socket `ours`, as dup2 would. Raises OSError."""
    set_fd = 1
    flags = os.O_CLOEXEC if close_on_exec else 0
    fcntl.ioctl(fd, _ADD_FD, struct.pack("=QIIII", call.id, set_fd, ours, theirs, flags))


def answer(fd: int, call: Call, error: int = 0) -> None:
    """The call returns 0, or fails with errno `error`, without having run."""
    _respond(fd, struct.pack("=QqiI", call.id, 0, -error, 0))


def let_pass(fd: int, call: Call) -> None:
    """The call runs as if nobody had asked."""
    _respond(fd, struct.pack("=QqiI", call.id, 0, 0, _CONTINUE))


def _respond(fd: int, response: bytes) -> None:
    try:
        fcntl.ioctl(fd, _SEND, bytearray(response), True)
    except FileNotFoundError:
        pass  # the task was killed meanwhile

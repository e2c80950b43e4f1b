"""Run a command in which some system calls fail: a seccomp filter (BPF) with a rule for each.

As a script: ``python denying.py 'setsockopt arg2=51 EPERM' … -- command``. A rule is the name of a system call, which
may be followed by a condition on one argument, and the error. Conditions: ``arg2=51``, its low word is 51; ``arg1&8``,
its low word has bit 3; ``arg3>>32``, its high word is not 0. Numbers may be hexadecimal.
"""

import ctypes
import errno
import os
import re
import struct
import sys

ARCH = 0xC000003E  # x86-64
NUMBERS = {
    "fcntl": 72, "getsockopt": 55, "getxattr": 191, "inotify_init1": 294, "ioctl": 16, "pidfd_getfd": 438,
    "pidfd_open": 434, "prctl": 157, "pread64": 17, "seccomp": 317, "setsockopt": 54, "socket": 41, "splice": 275,
}  # fmt: skip

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

Step = tuple[int, int, int, int]


def rule(text: str) -> list[Step]:
    """The steps of one rule, which end in a return or fall through."""
    name, *conditions, error = text.split()
    deny: list[Step] = [(_RETURN, 0, 0, _ERRNO | getattr(errno, error))]
    for condition in conditions:
        found = re.fullmatch(r"arg(\d)(=|&|>>)(\w+)", condition)
        assert found, condition
        offset, value = 16 + 8 * int(found[1]), int(found[3], 0)
        if found[2] == ">>":
            deny = [(_LOAD, 0, 0, offset + 4), (_EQUAL, len(deny), 0, 0), *deny]
        else:
            deny = [(_LOAD, 0, 0, offset), (_EQUAL if found[2] == "=" else _ANY_BIT, 0, len(deny), value), *deny]
    return [(_LOAD, 0, 0, 0), (_EQUAL, 0, len(deny), NUMBERS[name]), *deny]


def deny(rules: list[str]) -> None:
    """From now on, for this process and all that it starts."""
    steps: list[Step] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, ARCH), (_RETURN, 0, 0, _ALLOW)]
    for text in rules:
        steps += rule(text)
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, program, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


if __name__ == "__main__":
    split = sys.argv.index("--")
    deny(sys.argv[1:split])
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])

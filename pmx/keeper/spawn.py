"""The parent's half of starting a program: fork, and what a failure means in words."""

import errno
import os
import socket

from pmx.keeper import child
from pmx.keeper.inheritance import Inheritance
from pmx.keeper.protocol import Spawn


def fork(order: Spawn, given: Inheritance, nofile: tuple[int, int]) -> tuple[int, socket.socket]:
    """Fork the program of `order`. Returns its pid and our end of its report; end of file there: exec succeeded.

    A packet of the report is the descriptor of its filter with nothing to say, ``unshared`` with a reason, or why it
    could not be executed. Raises OSError when there is no process or descriptor to be had.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            raise
        if pid == 0:
            child.become(order, given, theirs.fileno(), nofile)
    return pid, ours


def explain(order: Spawn, report: bytes) -> tuple[int, str]:
    """The errno and the sentence for what the child wrote to its error pipe."""
    step, _, rest = report.decode("utf-8", "replace").partition("\0")
    number_text, _, text = rest.partition("\0")
    number = int(number_text) if number_text.isdigit() else 0
    name = f" ({errno.errorcode[number]})" if number in errno.errorcode else ""
    program = order.argv[0] if order.argv else "an empty command"
    what = {
        "cwd": f"cannot enter the working directory {order.cwd} of {program}",
        "identity": f"cannot run {program} as uid {order.uid}, gid {order.gid}",
        "sockets": f"cannot pass the sockets of {program}",
        "limits": f"cannot set the resource limits of {program}",
        "output": f"cannot connect the output of {program}",
        "session": f"cannot start a session for {program}",
    }.get(step, f"cannot run {program}")
    return number, f"{what}: {_why(order, step, number, text)}{name}"


def why_unshared(report: bytes) -> str:
    """Why the filter could not be installed, in words."""
    _, number_text, text = report.decode("utf-8", "replace").split("\0", 2)
    number = int(number_text)
    if number == errno.EBUSY:
        text = "another manager further out, perhaps a pmx that runs this one, answers for its ports already"
    return f"{text} ({errno.errorcode.get(number, number)})"


def _why(order: Spawn, step: str, number: int, text: str) -> str:
    if step != "exec":
        return text or "unknown error"
    if number == errno.ENOENT:
        # execve(2) says ENOENT for a missing script and for a script whose interpreter is missing.
        interpreter = _shebang(order.argv[0])
        return f"its interpreter {interpreter} does not exist" if interpreter else "no such file"
    if number == errno.ENOEXEC:
        return "it is neither a binary for this machine nor a script with a #! line"
    if number == errno.EACCES:
        return "no permission to execute it"
    return text or "unknown error"


def _shebang(path: str) -> str:
    """The interpreter that the #! line of `path` names; empty when there is none."""
    try:
        with open(path, "rb") as file:
            line = file.readline(256)
    except OSError:
        return ""
    words = line[2:].split() if line.startswith(b"#!") else []
    name = words[0].decode("utf-8", "replace") if words else ""
    # A script with Windows line ends asks for an interpreter whose name ends in a carriage return.
    return f"{name}\\r" if name and len(words) == 1 and line.endswith(b"\r\n") else name

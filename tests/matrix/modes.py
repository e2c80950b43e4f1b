"""The ways to run pmx in which the matrix must pass. As a script: what must be done between fork and exec for some.

root     as it is
user     an ordinary user without any capability (uid 1000, which needs no name), from root
userns   root of a user namespace of its own (unshare -Ur)
nogetfd  pidfd_getfd(2), bpf(2) and io_uring answer EPERM, as under the default seccomp profile of a container

The wrapper is before each pmx command, so the keeper, which the first one starts, and all programs inherit it.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence

MODES = ("root", "user", "userns", "nogetfd")
UID = 1000

_NUMBERS = {  # audit architecture, and the numbers of pidfd_getfd, io_uring_setup, _enter, _register, bpf
    "x86_64": (0xC000003E, (438, 425, 426, 427, 321)),
    "aarch64": (0xC00000B7, (438, 425, 426, 427, 280)),
}


def refusal(mode: str) -> str:
    """Why `mode` cannot be had here; empty when it can."""
    if os.geteuid() != 0 and mode in ("root", "user"):
        return "" if mode == "user" else "this is not root"
    if mode == "nogetfd" and platform.machine() not in _NUMBERS:
        return f"the filter knows no {platform.machine()}"
    command = {"user": ["unshare", "--mount", "true"], "userns": ["unshare", "--user", "--map-root-user", "true"]}
    done = subprocess.run(command.get(mode, ["true"]), capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def wrapped(mode: str, argv: Sequence[str], reach: Iterable[str]) -> list[str]:
    """The command that runs `argv` in `mode`; the directories `reach` are readable in it."""
    match mode:
        case "user" if os.geteuid() == 0:
            space = ["unshare", "--mount", "--propagation", "private"]
            return [*space, sys.executable, __file__, mode, *reach, "--", *argv]
        case "userns":
            return ["unshare", "--user", "--map-root-user", *argv]
        case "nogetfd":
            return [sys.executable, __file__, mode, "--", *argv]
    return list(argv)


# --- user: root's directories are closed to others, so a mount namespace shows some of what is in them ----------


def open_up(paths: Iterable[str]) -> None:
    """Cover each directory that others may not enter with one that they may, and that leads to `paths` only."""
    wanted = [child for path in paths for child in ([path] if _open(path) else _children(path))]
    for closed in sorted({each for path in wanted if (each := _closed(path))}):
        below = {path: os.open(path, os.O_PATH) for path in wanted if path.startswith(f"{closed}/")}
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", closed)
        for path, original in below.items():
            _make_like(path, original)
            _mount("--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{original}", path)


def _open(path: str) -> bool:
    return bool(os.stat(path).st_mode & 0o001)


def _children(path: str) -> list[str]:
    return [os.path.join(path, name) for name in os.listdir(path)]


def _closed(path: str) -> str:
    """The topmost directory above `path` that others may not enter, or nothing."""
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(2, len(parts))]
    return next((each for each in above if not _open(each)), "")


def _make_like(path: str, original: int) -> None:
    """A directory or an empty file, for a mount to cover."""
    if os.path.isdir(f"/proc/self/fd/{original}"):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def user(reach: list[str], argv: list[str]) -> None:
    open_up(sorted({os.path.realpath(path) for path in reach}))
    ids = [f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    setpriv = shutil.which("setpriv") or "setpriv"
    os.execv(setpriv, ["setpriv", *ids, *argv])


# --- nogetfd ----------------------------------------------------------------------------------------------------


class _Step(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.POINTER(_Step)))


def nogetfd(argv: list[str]) -> None:
    architecture, numbers = _NUMBERS[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with EPERM
    count = len(numbers)
    steps = [_Step(load, 0, 0, 4), _Step(equal, 0, count + 1, architecture), _Step(load, 0, 0, 0)]
    steps += [_Step(equal, count - index, 0, number) for index, number in enumerate(numbers)]
    steps += [_Step(answer, 0, 0, allow), _Step(answer, 0, 0, refuse)]
    program = _Program(len(steps), (_Step * len(steps))(*steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, without which only CAP_SYS_ADMIN may filter
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "cannot install the filter")
    os.execv(argv[0], argv)


def main() -> None:
    split = sys.argv.index("--")
    mode, *reach = sys.argv[1:split]
    argv = sys.argv[split + 1 :]
    if mode == "user":
        user(reach, argv)
    nogetfd(argv)


if __name__ == "__main__":
    main()

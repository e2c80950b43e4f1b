"""Start the keeper: ``python -I -S pmx/keeper/__main__.py --home DIR --ready-fd N``.

It runs isolated (-I) and without site-packages (-S): nothing that is installed, upgraded or broken there can touch
it. Everything is imported before it says it is ready, and the import path is emptied then, so an upgrade of the
package under a running keeper cannot load half-new code.
"""

import fcntl
import gc
import os
import resource
import signal
import sys
import time

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, _ROOT)

from pmx.keeper import linux  # noqa: E402
from pmx.keeper.brain import Brain  # noqa: E402
from pmx.keeper.log import log  # noqa: E402
from pmx.keeper.loop import Keeper  # noqa: E402

ALREADY = "already running"
_LOCK_PATIENCE = 1.0


def main(argv: list[str]) -> int:
    home, ready_fd = _parse(argv)
    _close_inherited(ready_fd)
    if not _lock(home):
        _answer(ready_fd, ALREADY)
        return 0
    try:
        _detach(home)
    except OSError as error:
        _answer(ready_fd, f"cannot write {home}/keeper.log: {error.strerror}")
        return 1
    linux.become_subreaper()
    linux.set_name("pmx-keeper")
    nofile = _raise_descriptor_limit()
    sys.path.clear()
    gc.freeze()  # what is loaded stays: a collection need not touch it, nor a fork copy its pages
    # -P: the directory of the script is no place to import from; its modules are called like standard ones.
    daemon = Brain([sys.executable, "-P", f"{_ROOT}/pmx/daemon/__main__.py", "--home", home])
    return Keeper(daemon, lambda problem: _answer(ready_fd, problem), nofile).run()


def _parse(argv: list[str]) -> tuple[str, int]:
    if len(argv) != 4 or argv[0] != "--home" or argv[2] != "--ready-fd":
        raise SystemExit("usage: keeper --home DIR --ready-fd N")
    return argv[1], int(argv[3])


def _lock(home: str) -> bool:
    """One keeper per home: an exclusive lock on the directory itself, held as long as we live (flock(2)).

    A client that looks whether we run holds a shared lock for a moment; so one refusal proves nothing yet.
    """
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    patience = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > patience:
                return False
            signal.sigtimedwait((), 0.01)


def _close_inherited(kept: int) -> None:
    """Whatever the shell that started us had open is none of our business, and none of the programs'."""
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd != kept:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listdir used
    os.set_inheritable(kept, False)


def _detach(home: str) -> None:
    """Our own session, no terminal, no directory in use; output goes to the log."""
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDONLY)
    output = os.open(f"{home}/keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _raise_descriptor_limit() -> tuple[int, int]:
    """Two descriptors per program: take what we may. Returns the limits as they were, which programs get back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    except (OSError, ValueError):
        log("cannot raise the limit of open files")
    return before


def _answer(fd: int, problem: str) -> None:
    """Tell whoever started us: an empty line for ready, else what is wrong. Once."""
    try:
        os.write(fd, problem.encode("utf-8", "replace") + b"\n")
        os.close(fd)
    except OSError:
        pass  # they did not wait


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

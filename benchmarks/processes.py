"""Starting, watching, weighing and ending processes, by Linux's /proc.

The harness makes itself a subreaper, so that whatever a contender daemonises is a descendant of the harness for as
long as it lives: nothing is found by name, and "nothing is left" is a fact rather than a guess.
"""

import ctypes
import fcntl
import os
import pty
import resource
import signal
import struct
import tempfile
import termios
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36
_TICK = os.sysconf("SC_CLK_TCK")
_DROPPED = ("PYTHON", "NODE_", "PMX_", "PM2_", "CIRCUS", "SUPERVISOR")


class Failed(Exception):
    """A contender did not do what it was told; the table says so and the run goes on."""


def become_subreaper() -> None:
    """Adopt orphaned descendants. Raises OSError where the kernel has no such thing."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def clean_environment() -> dict[str, str]:
    """Our environment as a user has it.

    Dropped are settings that slow a runtime down: PYTHONDONTWRITEBYTECODE, and NODE_EXTRA_CA_CERTS, which costs every
    start of node 20 some 70 ms. The same for all contenders.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    return kept | {"TERM": "xterm-256color"}


@contextmanager
def _deadline(seconds: float, what: str) -> Iterator[None]:
    def late(_signal: int, _frame: FrameType | None) -> None:
        raise Failed(f"{what} took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def spawn(argv: list[str], env: Mapping[str, str], output: int | None = None, *, session: bool = False) -> int:
    """Start a command, its output into the descriptor or nowhere; returns its pid.

    With a session of its own, a kernel with autogroups (sched(7)) gives it its own share of the processors.
    """
    null = os.open(os.devnull, os.O_RDWR)
    to = null if output is None else output
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, to, 1), (os.POSIX_SPAWN_DUP2, to, 2)]
        return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsid=session)
    finally:
        os.close(null)


def wait(pid: int, timeout: float, what: str) -> int:
    """The exit status of our child. Reaps adopted orphans meanwhile: a zombie would look alive to its own CLI."""
    try:
        with _deadline(timeout, what):
            while True:
                ended, status = os.waitpid(-1, 0)
                if ended == pid:
                    return os.waitstatus_to_exitcode(status)
    except BaseException:  # too late, or the harness itself is told to end
        _signal(pid, signal.SIGKILL)
        raise


def run(argv: list[str], env: Mapping[str, str], output: int | None = None, timeout: float = 60) -> float:
    """The wall time of one command. Raises Failed when it fails."""
    begin = time.perf_counter()
    status = wait(spawn(argv, env, output), timeout, describe(argv))
    took = time.perf_counter() - begin
    if status != 0:
        raise Failed(f"{describe(argv)} ended with {status}")
    return took


def output(argv: list[str], env: Mapping[str, str], timeout: float = 60) -> str:
    """What a command said. Raises Failed, with the last of it, when it fails."""
    with tempfile.TemporaryFile() as file:
        status = wait(spawn(argv, env, file.fileno()), timeout, describe(argv))
        file.seek(0)
        said = file.read().decode(errors="replace")
    if status != 0:
        raise Failed(f"{describe(argv)} ended with {status}: {(said.strip().splitlines() or ['nothing said'])[-1]}")
    return said


def run_on_terminal(argv: list[str], env: Mapping[str, str]) -> float:
    """The same with a terminal of 40 by 160 for output, which a thread empties."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    drain = threading.Thread(target=_drain, args=(ours,))
    drain.start()
    try:
        return run(argv, env, theirs)
    finally:
        os.close(theirs)
        drain.join()
        os.close(ours)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:  # EIO: the last writer is gone
        pass


def describe(argv: list[str]) -> str:
    return " ".join([os.path.basename(argv[0]), *argv[1:4]])[:60]


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    except FileNotFoundError:
        pass
    return found


def descendants(pid: int, leaves: Iterable[int] = ()) -> list[int]:
    """All processes below `pid`; does not look below `leaves`."""
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children(todo.pop())
        found += below
        todo += (each for each in below if each not in leaves)
    return found


def command_line(pid: int) -> str:
    return _read(f"/proc/{pid}/cmdline").replace("\0", " ")


def name(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").strip()


def is_alive(pid: int) -> bool:
    state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(state) and state[0] not in ("Z", "X")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Time on a processor so far, user and system, without children."""
    ticks = 0
    for pid in pids:
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / _TICK


def busy_seconds() -> float:
    """The time that processors of this machine were in use or withheld by its host so far, but for ended children."""
    idle, ended = (3, 4), resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = [int(field) for field in _read("/proc/stat").splitlines()[0].split()[1:9]]
    ours = ended.ru_utime + ended.ru_stime
    return sum(value for index, value in enumerate(fields) if index not in idle) / _TICK - ours


def switches(pids: Iterable[int]) -> int:
    """How often they were switched out so far, waiting or preempted, all threads."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            for line in _read(f"/proc/{pid}/task/{task}/status").splitlines():
                key, _, value = line.partition(":")
                total += int(value) if key.endswith("ctxt_switches") else 0
    return total


def memory(pids: Iterable[int]) -> tuple[float, float]:
    """Proportional and resident set in MiB."""
    total = {"Pss": 0, "Rss": 0}
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            key, _, rest = line.partition(":")
            if key in total:
                total[key] += int(rest.split()[0])
    return total["Pss"] / 1024, total["Rss"] / 1024


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):  # the process is gone
        return ""


def reap() -> None:
    """Collect the children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def wait_gone(pids: Iterable[int], timeout: float) -> list[int]:
    """Those of `pids` that still live after `timeout`."""
    until = time.monotonic() + timeout
    left = list(pids)
    while left and time.monotonic() < until:
        reap()
        left = [pid for pid in left if is_alive(pid)]
        time.sleep(0.01)
    return left


def end(pids: Iterable[int]) -> None:
    """Kill these processes, and wait until they are gone."""
    for pid in (doomed := list(pids)):
        _signal(pid, signal.SIGKILL)
    wait_gone(doomed, 10)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass

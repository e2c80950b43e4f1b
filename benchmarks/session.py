"""One contender at work in a private home, from the first command to the proof that nothing of it is left."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import processes
from benchmarks.contenders import Argv, Contender
from benchmarks.processes import Failed

PROGRAM = ["sleep", "1000"]
_POLL = 0.002
_STOP_ATTEMPTS = 3  # circus refuses while it is busy with crashing programs


class Session:
    """A contender and its home."""

    def __init__(self, contender: Contender, home: Path) -> None:
        self.contender = contender
        self.home = home
        self.env = processes.clean_environment() | contender.environment(home)

    @property
    def name(self) -> str:
        return self.contender.name

    def start_daemon(self) -> None:
        """Return when the daemon takes commands."""
        self.run(self.contender.start_daemon(self.home))
        until = time.monotonic() + 15
        while True:
            try:
                self.run(self.contender.ping(self.home), timeout=10)
                return
            except Failed:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def start_programs(self, count: int, argv: Argv = PROGRAM) -> tuple[float, float]:
        """Start programs; the seconds until all of them run, and until the command returned."""
        return self._timed_start(self.contender.start_programs(self.home, count, argv), count)

    def cold_start(self) -> tuple[float, float]:
        """From no daemon to one running program; the same two figures."""
        return self._timed_start(self.contender.cold_start(self.home, PROGRAM), 1)

    def _timed_start(self, argv: Argv, count: int) -> tuple[float, float]:
        watch = Watch(PROGRAM[0])
        begin = time.perf_counter()
        pid = processes.spawn(argv, self.env)
        try:
            return _both(watch, pid, count, begin)
        except Failed as error:
            raise Failed(f"{processes.describe(argv)}: {error}") from None
        finally:
            if pid in processes.children(os.getpid()):  # interrupted before it was reaped
                processes.end([pid])

    def run(self, argv: Argv, timeout: float = 60) -> float:
        return processes.run(argv, self.env, timeout=timeout)

    def ls(self) -> float:
        """The wall time of the list for people."""
        return self.run(next(iter(self.contender.listings(self.home).values())))

    def listings(self) -> Mapping[str, Callable[[], float]]:
        """Each list by the words a person types; the first also as it is on a terminal."""
        commands = self.contender.listings(self.home)
        timed = {f"{self.name} {verb}": partial(self.run, argv) for verb, argv in commands.items()}
        verb, first = next(iter(commands.items()))
        return {f"{self.name} {verb}, terminal": partial(processes.run_on_terminal, first, self.env)} | timed

    def pids(self) -> list[int]:
        """Its daemons: those whose command line names the home."""
        home = str(self.home)
        return [pid for pid in processes.descendants(os.getpid()) if home in processes.command_line(pid)]

    def stop(self) -> None:
        """End everything. Kills, and tells, what the contender left behind."""
        doomed = set(self.pids())
        doomed.update(*(processes.descendants(pid) for pid in doomed))
        if not doomed:
            return
        try:
            self._ask_to_stop()
            processes.wait_gone(doomed, 15)
        finally:
            self._end_left(doomed)

    def _end_left(self, doomed: set[int]) -> None:
        ours = set(processes.descendants(os.getpid()))  # a pid may belong to somebody else by now
        left = sorted(pid for pid in ours & {*doomed, *self.pids()} if processes.is_alive(pid))
        if left:
            names = ", ".join(sorted({processes.name(pid) for pid in left}))
            print(f"{self.name} left {len(left)} processes ({names}); ending them", file=sys.stderr)
            processes.end(left)

    def _ask_to_stop(self) -> None:
        for _ in range(_STOP_ATTEMPTS):
            try:
                self.run(self.contender.stop(self.home))
                return
            except Failed as error:
                print(f"{self.name}: {error}", file=sys.stderr)
                time.sleep(1)


class Watch:
    """Counts processes of one name below the harness, looking at each of them once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._before = set(processes.descendants(os.getpid()))
        self._seen: set[int] = set()

    def count(self) -> int:
        below = processes.descendants(os.getpid(), self._seen)
        fresh = set(below) - self._seen - self._before
        self._seen.update(pid for pid in fresh if processes.name(pid) == self._name)
        return len(self._seen)


def _both(watch: Watch, pid: int, count: int, begin: float) -> tuple[float, float]:
    """Seconds from `begin` until `count` processes run, and until the command `pid` has returned."""
    running = returned = 0.0
    limit = 30 + count / 10
    while not (running and returned):
        if not returned and (ended := os.waitpid(pid, os.WNOHANG))[0]:
            returned = time.perf_counter() - begin
            if status := os.waitstatus_to_exitcode(ended[1]):
                raise Failed(f"status {status}")
        if not running and watch.count() >= count:
            running = time.perf_counter() - begin
        if time.perf_counter() - begin > limit:
            raise Failed(f"{watch.count()} of {count} processes after {limit:.0f} s")
        time.sleep(_POLL)
    return running, returned


@contextmanager
def session(contender: Contender) -> Iterator[Session]:
    """A session whose home and processes are gone afterwards, whatever happened."""
    home = Path(tempfile.mkdtemp(prefix="pmxb-", dir="/tmp"))  # short: it holds sockets
    opened = Session(contender, home)
    try:
        yield opened
    finally:
        try:
            opened.stop()
        finally:
            shutil.rmtree(home, ignore_errors=True)


def assert_nothing_left() -> None:
    """Raise AssertionError when a process of this run still lives, having killed it."""
    left = [pid for pid in processes.descendants(os.getpid()) if processes.is_alive(pid)]
    told = ", ".join(f"{pid} {processes.command_line(pid).strip()}" for pid in left)
    processes.end(left)
    processes.reap()
    assert not left, f"left behind: {told}"

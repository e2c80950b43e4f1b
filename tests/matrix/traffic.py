"""The load client as a test sees it, and which worker of pmx a process belongs to."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.harness import ROOT, eventually


class Report(NamedTuple):
    """What the clients saw until now: answers by the pid that gave them, failures by class, and the first of these."""

    answered: int
    pids: dict[int, int]
    failures: dict[str, int]
    first: str


class Traffic:
    """Clients of one port, from the beginning of the with statement to its end."""

    def __init__(self, host: str, port: int, *options: str) -> None:
        argv = [sys.executable, "-m", "tests.matrix.load", "--host", host, "--port", str(port), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> "Traffic":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.process.communicate(timeout=30)  # the end of its input is its end

    def report(self) -> Report:
        return self._ask("count")

    def stop(self) -> Report:
        """The last report: what was in flight is in it."""
        return self._ask("stop")

    def until(self, fits: Callable[[Report], bool], what: str) -> Report:
        """The first report that fits."""
        last = [self.report()]

        def look() -> bool:
            last[0] = self.report()
            return fits(last[0])

        try:
            eventually(look, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {last[0]}") from None
        return last[0]

    def end(self) -> Report:
        """The last report of a load that ends by itself."""
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        return Report(
            said["answered"], {int(pid): n for pid, n in said["pids"].items()}, said["failures"], said["first"]
        )

    def _ask(self, order: str) -> Report:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.end()


class Workers:
    """Whose process is it? A worker is a child of the keeper; its own children answer for it, too."""

    def __init__(self, keeper: int) -> None:
        self.keeper = keeper
        self.known: dict[int, int] = {}  # remembered, since a dead process has no parent any more

    def of(self, pid: int) -> int:
        """The pid of the worker that `pid` belongs to; 0 when it is gone and was not seen before."""
        if pid not in self.known:
            self.known[pid] = self._climb(pid)
        return self.known[pid]

    def share(self, report: Report) -> dict[int, int]:
        """Answers by worker."""
        found: dict[int, int] = {}
        for pid, answers in report.pids.items():
            worker = self.of(pid)
            found[worker] = found.get(worker, 0) + answers
        return found

    def _climb(self, pid: int) -> int:
        while pid > 1:
            parent = _parent(pid)
            if parent == self.keeper:
                return pid
            pid = parent
        return 0


def _parent(pid: int) -> int:
    try:
        found = re.search(r"^PPid:\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0

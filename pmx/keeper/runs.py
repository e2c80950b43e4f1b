"""Who is alive, who ended, and what they left behind: an index fed by facts. It forks nothing and signals nobody.

A run is known by (key, run number). It is *living* from fork to the end of its main process; its end is kept until
the daemon acknowledges it. A run whose tree outlived its main process is *swept*: it stays on a list until none of
the group and none of its marked strays is left.
"""

import os
import socket

from pmx.keeper import linux
from pmx.keeper.protocol import Exited, Spawn
from pmx.keeper.trap import Member, Trap


class Run:
    """What the keeper knows of one run."""

    __slots__ = (
        "key", "marker", "member", "order", "pid", "report", "reporter", "run", "trap", "tree", "unshared",
    )  # fmt: skip

    def __init__(self, order: Spawn, pid: int, reporter: socket.socket | None) -> None:
        self.key = order.key
        self.run = order.run
        self.marker = order.marker.encode("utf-8", "surrogatepass")
        self.tree = order.tree
        self.pid = pid
        self.order: Spawn | None = order  # until exec: to explain a failure
        self.reporter = reporter  # None once exec is decided
        self.report = b""
        self.member = Member(order.key, order.run, order.group, order.slot, tuple(order.ports or ()))
        self.trap: Trap | None = None
        self.unshared = ""  # why it has its ports for itself

    @property
    def spawning(self) -> bool:
        return self.reporter is not None


class Runs:
    """The index. `others` are children that are no programs: the daemon."""

    def __init__(self) -> None:
        self.by_pid: dict[int, Run] = {}
        self.by_key: dict[tuple[str, int], Run] = {}
        self.ends: dict[tuple[str, int], Exited] = {}
        self.swept: dict[tuple[str, int], Run] = {}
        self.others: set[int] = set()

    def add(self, run: Run) -> None:
        self.by_pid[run.pid] = run
        self.by_key[run.key, run.run] = run

    def living(self) -> list[tuple[str, int, int]]:
        """(key, run, pid) of every living run; pid 0 while it is not yet known whether exec succeeds."""
        return [(run.key, run.run, 0 if run.spawning else run.pid) for run in self.by_pid.values()]

    def find(self, key: str, run: int) -> Run | None:
        """The run, living or swept."""
        return self.by_key.get((key, run)) or self.swept.get((key, run))

    def ended(self, pid: int, status: int) -> Exited | None:
        """Main process `pid` ended with wait status `status`: the entry in the ledger. None for a stranger."""
        run = self.by_pid.pop(pid, None)
        if run is None:
            return None
        del self.by_key[run.key, run.run]
        leftover = run.tree and self.leftover(run)
        if leftover:
            self.swept[run.key, run.run] = run
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
        end = Exited(run.key, run.run, pid, code, signal, leftover)
        self.ends[run.key, run.run] = end
        return end

    def forget(self, key: str, run: int) -> None:
        """The daemon has the end of this run on record."""
        self.ends.pop((key, run), None)

    def gone(self) -> list[tuple[str, int]]:
        """The swept runs of which nothing is left any more; they are off the list afterwards."""
        done = [name for name, run in self.swept.items() if not self.leftover(run)]
        for name in done:
            del self.swept[name]
            if name in self.ends:
                self.ends[name] = self.ends[name]._replace(leftover=False)
        return done

    def leftover(self, run: Run) -> bool:
        # The pid of the main process is the id of its group, and cannot be given away while the group has members.
        return linux.group_exists(run.pid) or bool(self.strays(run))

    def strays(self, run: Run) -> list[int]:
        """Descendants of `run` that left its group and whose parent died, which made them children of ours.

        Safe to signal: nobody else can reap our children, so their pids stay theirs until we do.
        """
        if not run.marker:
            return []
        known = self.by_pid.keys() | self.others
        return [pid for pid in linux.children() if pid not in known and linux.environ_has(pid, run.marker)]

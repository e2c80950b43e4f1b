"""Start, signal and bury programs, and tell what became of them."""

import errno
import os
import signal
import time
from collections.abc import Callable

from pmx.keeper import linux, protocol as p, spawn
from pmx.keeper.fdstore import FdStore
from pmx.keeper.poller import Poller
from pmx.keeper.runs import Run, Runs

LAST_GRACE = 5.0
"""Seconds for what is left at the very end to die of SIGKILL."""


class Programs:
    """All managed programs. `tell` says something to the daemon; `nofile` is the limit that programs get."""

    def __init__(self, poller: Poller, tell: Callable[[p.Message], None], nofile: tuple[int, int]) -> None:
        self.runs = Runs()
        self.store = FdStore()
        self._poller = poller
        self._tell = tell
        self._nofile = nofile

    def spawn(self, order: p.Spawn) -> None:
        try:
            pid, pipe = spawn.fork(order, self.store, self._nofile)
        except OSError as error:
            why = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, 'unknown')})"
            self._tell(
                p.Failed(order.key, order.run, error.errno or 0, f"cannot start {''.join(order.argv[:1])}: {why}")
            )
            return
        run = Run(order, pid, pipe)
        self.runs.add(run)
        self._poller.add(pipe, lambda: self._read_report(run))

    def _read_report(self, run: Run) -> None:
        """Read the error pipe of `run`; at its end, say what it means."""
        data = os.read(run.error_pipe, 4096)
        if data:
            run.report += data
            return
        self._poller.remove(run.error_pipe)
        os.close(run.error_pipe)
        run.error_pipe = -1
        order, run.order = run.order, None
        if run.report and order is not None:
            number, sentence = spawn.explain(order, run.report)
            self._tell(p.Failed(run.key, run.run, number, sentence))
        else:
            self._tell(p.Spawned(run.key, run.run, run.pid))

    def signal(self, order: p.Signal) -> None:
        run = self.runs.find(order.key, order.run)
        if run is None:
            return  # it ended meanwhile, which the daemon is being told
        if order.whom in ("group", "all"):
            _send(run, order.signal)
        if order.whom in ("strays", "all") and run.tree:
            for pid in self.runs.strays(run):
                _kill(pid, order.signal)
        self.tell_gone()  # what was left over may have left group and marker without dying, and nobody is buried then

    def ended(self, pid: int, status: int) -> None:
        """A child that is not the daemon ended."""
        run = self.runs.by_pid.get(pid)
        if run is None:
            return  # an orphan that a program left behind
        while run.spawning:
            self._read_report(run)
        end = self.runs.ended(pid, status)
        if end is None or run.report:
            self.runs.forget(run.key, run.run)  # Failed has been said; there was no run
        else:
            self._tell(end)

    def tell_gone(self) -> None:
        """Say which trees have ended since their main process did. To be called after each burial."""
        if self.runs.swept:
            for key, run in self.runs.gone():
                self._tell(p.Gone(key, run))

    def kill_all(self) -> list[int]:
        """SIGKILL to every child and every group, until none is left. Returns those that would not die in time."""
        deadline = time.monotonic() + LAST_GRACE
        for run in [*self.runs.swept.values(), *self.runs.by_pid.values()]:
            _send(run, signal.SIGKILL)
        while (pids := _living_children()) and time.monotonic() < deadline:
            for pid in pids:
                _kill(pid, signal.SIGKILL)
            signal.sigtimedwait((signal.SIGCHLD,), 0.02)
        self.store.close()
        return pids


def _living_children() -> list[int]:
    """Our children, after the dead among them are buried."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return []
    return linux.children()


def _send(run: Run, number: int) -> None:
    """To the group of `run`; to the main process alone when its tree is not ours to end, or has no group yet."""
    if run.tree:
        try:
            os.killpg(run.pid, number)
            return
        except OSError:
            pass  # ESRCH: setsid has not happened yet, or the group is empty
    if run.spawning or not run.tree:
        _kill(run.pid, number)


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it ended meanwhile

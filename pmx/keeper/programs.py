"""Start, signal and bury programs, and tell what became of them."""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable

from pmx.keeper import inheritance, linux, protocol as p, spawn, tracee
from pmx.keeper.fdstore import FdStore
from pmx.keeper.log import log
from pmx.keeper.poller import Poller
from pmx.keeper.runs import Run, Runs
from pmx.keeper.slots import Slots, place_of
from pmx.keeper.trap import Trap

Tell = Callable[..., None]

LAST_GRACE = 5.0
"""Seconds for what is left at the very end to die of SIGKILL."""


class Programs:
    """All managed programs. `tell` says something to the daemon; `nofile` is the limit that programs get."""

    def __init__(self, poller: Poller, tell: Tell, nofile: tuple[int, int]) -> None:
        self.runs = Runs()
        self.store = FdStore()
        self.slots = Slots(poller, log)
        self._poller = poller
        self._tell = tell
        self._nofile = nofile

    def spawn(self, order: p.Spawn) -> None:
        given = None
        try:
            given = inheritance.prepare(order, self.store, self.slots)
            pid, reporter = spawn.fork(order, given, self._nofile)
        except OSError as error:
            why = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, 'unknown')})"
            failed = p.Failed(order.key, order.run, error.errno or 0, f"cannot start {''.join(order.argv[:1])}: {why}")
            self._tell(failed)
            self._leave(order.key, order.run, order.group, order.slot)
            self.forget(failed)
            return
        finally:
            for lent in given.lent if given else ():
                lent.close()
        run = Run(order, pid, reporter)
        self.runs.add(run)
        self._poller.add(reporter.fileno(), lambda: self._read_report(run))
        for fact in self.slots.facts() if order.sockets else ():
            if (fact.key, fact.run) == (run.key, run.run):
                self._tell(fact)

    def _read_report(self, run: Run) -> None:
        """Read one packet of what the child of `run` reports; at its end, say what it means."""
        if run.reporter is None:
            return
        data, fds, _, _ = socket.recv_fds(run.reporter, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if fds:
            self._trap(run, fds[0])
        elif data.startswith(b"unshared\0"):
            run.unshared = spawn.why_unshared(data)
        elif data:
            run.report += data
        else:
            self._born(run)

    def _born(self, run: Run) -> None:
        """The report has ended: exec has succeeded, or the child told why not."""
        if run.reporter is not None:
            self._poller.remove(run.reporter.fileno())
            run.reporter.close()
            run.reporter = None
        order, run.order = run.order, None
        if run.report and order is not None:
            number, sentence = spawn.explain(order, run.report)
            self._tell(p.Failed(run.key, run.run, number, sentence))
            return
        self._tell(p.Spawned(run.key, run.run, run.pid))
        if run.unshared:
            self._tell(p.Unshared(run.key, run.run, run.unshared))

    def _trap(self, run: Run, fd: int) -> None:
        run.trap = trap = Trap(fd, run.member, self.slots, self._tell)

        def closed() -> None:
            """Nobody of the whole tree is left."""
            self._poller.remove(fd)
            os.close(fd)

        self._poller.add(fd, trap.serve)
        self._poller.on_hang_up(fd, closed)

    def shared(self) -> list[p.Message]:
        """What a new daemon must know of listeners."""
        unshared = [(run, run.unshared or (run.trap.unseen if run.trap else "")) for run in self.runs.by_pid.values()]
        return [*self.slots.facts(), *(p.Unshared(run.key, run.run, why) for run, why in unshared if why)]

    def listen(self, order: p.Listen) -> None:
        """A listener for a program that asked by its channel."""
        run = self.runs.by_key.get((order.key, order.run))
        try:
            if run is None:
                raise OSError(errno.ESRCH, "there is no such run")
            address = place_of(order.url)
            if not _may_have(run, address):
                raise OSError(errno.EACCES, "the program could not have it by itself")
            slot = self.slots.bind(run.member.group, run.member.slot, address)
            slot.holders.add((order.key, order.run))
            if run.trap is None:
                self.slots.listen(slot, 0, (order.key, order.run))  # nobody will tell when the program does
                self._tell(p.Listening(order.key, order.run, slot.group, slot.number, slot.url, slot.inode))
        except OSError as error:
            self._tell(p.Refused(order.key, order.run, order.url, error.errno or errno.EADDRINUSE))
            return
        self._tell(p.Descriptor(f"listen:{order.key}:{order.run}:{order.url}"), (slot.sock.fileno(),))

    def steer(self, order: p.Steer) -> None:
        self.slots.set_steering(order.group, order.balance, dict(order.weights))

    def release(self, order: p.Release) -> None:
        self.slots.release(order.group, order.slot)
        self._tell(p.Released(order.group, order.slot))

    def forget(self, it: p.Acknowledge | p.Failed | Run) -> None:
        self.runs.forget(it.key, it.run)
        self.store.drop(f"ipc:{it.key}:{it.run}")

    def _leave(self, key: str, run: int, group: str, slot: int) -> None:
        if group:
            self.slots.leave((key, run))
            self.slots.drop_unused(group, slot)

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
        if run.trap is not None:
            run.trap.run_over()
        self._leave(run.key, run.run, run.member.group, run.member.slot)
        end = self.runs.ended(pid, status)
        if end is None or run.report:
            self.forget(run)  # Failed has been said; there was no run
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
        self.slots.close()
        return pids


def _may_have(run: Run, address: tracee.Address | str) -> bool:
    """Whether we may make a listener that the program asks for: with our rights, which may be greater than its own."""
    if isinstance(address, str):
        return os.stat(f"/proc/{run.pid}").st_uid == os.geteuid()
    return address.port in run.member.ports or tracee.may_bind(run.pid, address.port)


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

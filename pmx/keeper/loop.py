"""One loop: the daemon's socket, the ends of children, the error pipes of those about to exec.

It decides nothing. It does what the daemon says, tells it what happened, and starts it again when it dies. It must
not end by an exception: whatever a message or a system call does is logged, and the loop goes on.
"""

import os
import signal
import time
from collections.abc import Callable

from pmx.keeper import protocol as p
from pmx.keeper.brain import Brain, describe, signal_name
from pmx.keeper.log import log
from pmx.keeper.poller import Poller
from pmx.keeper.programs import Programs

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Keeper:
    """The loop and its state. `starter` is told once whether the daemon came up: an empty text, or what is wrong."""

    def __init__(self, brain: Brain, starter: Callable[[str], None], nofile: tuple[int, int]) -> None:
        self.brain = brain
        self.poller = Poller()
        self.programs = Programs(self.poller, self._tell, nofile)
        self.quitting = False
        self._stopping = ""  # the signal that told us to end
        self.result: int | None = None
        self._starter: Callable[[str], None] | None = starter
        self._wake = _wake_on_signals()
        self._orders: dict[type[p.Message], Callable[..., None]] = {
            p.Spawn: self.programs.spawn,
            p.Signal: self.programs.signal,
            p.Acknowledge: self.programs.forget,
            p.Listen: self.programs.listen,
            p.Steer: self.programs.steer,
            p.Release: self.programs.release,
            p.Open: self._open,
            p.Drop: lambda order: self.programs.store.drop(order.name),
            p.Ready: lambda _: self._report_start(""),
            p.Quit: self._quit,
        }

    def run(self) -> int:
        """Run until everything is to end; returns the exit status."""
        self.poller.add(self._wake, self._woken)
        self._start_brain()
        while self.result is None:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001  # the keeper goes on, whatever happens: programs depend on it
                log(f"internal error: {type(error).__name__}: {error}")
        return self.result

    def _turn(self) -> None:
        brain = self.brain
        if brain.link is not None:
            self.poller.want_writable(brain.link.fileno(), brain.link.backlogged)
        self.poller.wait(None if brain.retry_at is None else max(0.0, brain.retry_at - time.monotonic()))
        if brain.retry_at is not None and time.monotonic() >= brain.retry_at and not self.quitting:
            self._start_brain()

    # ── the daemon ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start_brain(self) -> None:
        try:
            link = self.brain.start(time.monotonic())
        except OSError as error:
            log(f"cannot start the daemon: {error}")
            return
        log(f"started the daemon (pid {self.brain.pid})")
        runs, store = self.programs.runs, self.programs.store
        runs.others = {self.brain.pid}
        self.poller.add(link.fileno(), self._hear)
        self._tell(p.Hello(p.VERSION, os.getpid(), runs.living(), list(runs.ends), store.names()))
        for fact in (*runs.ends.values(), *self.programs.shared()):
            self._tell(fact)
        if self._stopping:
            self._tell(p.Stopping(self._stopping))  # the daemon that was told has died

    def _hear(self) -> None:
        link = self.brain.link
        if link is None:
            return
        link.flush()
        try:
            messages = link.receive()
        except p.ProtocolError as error:
            log(f"the daemon does not speak the protocol: {error}; hanging up")
            messages = None
        if messages is None:
            self._hang_up()
            return
        for message in messages:
            try:
                if type(message) in self._orders:
                    self._orders[type(message)](message)
            except Exception as error:  # noqa: BLE001  # the messages behind it have come only once
                log(f"internal error: {type(error).__name__}: {error}")

    def _hang_up(self) -> None:
        if self.brain.link is not None:
            self.poller.remove(self.brain.link.fileno())
            self.brain.link.close()
            self.brain.link = None

    def _tell(self, message: p.Message, fds: tuple[int, ...] = ()) -> None:
        """To a daemon that is not there nothing is said: the next one learns it from Hello and the ledger."""
        if self.brain.link is not None:
            self.brain.link.send(message, fds)

    def _open(self, order: p.Open) -> None:
        try:
            self._tell(p.Descriptor(order.name), (self.programs.store.open(order.name),))
        except OSError as error:
            log(f"cannot give the descriptor {order.name}: {error}")

    def _quit(self, _: p.Quit) -> None:
        self.quitting = True

    def _brain_ended(self, status: int) -> None:
        words = self.brain.ended(status, time.monotonic())
        self._hear()  # its last words, a Quit perhaps, may come together with the news of its death
        self._hang_up()
        self.programs.runs.others = set()
        if self.quitting:
            log(f"{words}, as it said it would")
            self._finish(0)
        elif self._starter is not None:
            # It never came up: whoever asked is told, and nothing half-started is left.
            log(words)
            self._report_start(f"the daemon {describe(status)} before it was ready")
            self._finish(1)
        else:
            wait = max(0.0, (self.brain.retry_at or 0.0) - time.monotonic())
            log(f"{words}; starting it again in {wait:.1f} s")

    def _report_start(self, problem: str) -> None:
        if self._starter is not None:
            self._starter(problem)
            self._starter = None

    # ── signals and children ─────────────────────────────────────────────────────────────────────────────────────

    def _woken(self) -> None:
        numbers = set(os.read(self._wake, 4096))
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in _ENDING:
            if number in numbers:
                self._told_to_end(signal_name(number))

    def _reap(self) -> None:
        # All of them first: a zombie that waits to be reaped still counts as a member of its group.
        for pid, status in _buried():
            try:
                self._brain_ended(status) if pid == self.brain.pid else self.programs.ended(pid, status)
            except Exception as error:  # noqa: BLE001  # the others are buried, and will not be told of again
                log(f"internal error: {type(error).__name__}: {error}")
        self.programs.tell_gone()

    def _told_to_end(self, name: str) -> None:
        log(f"got {name}")
        self._stopping = name
        if self.brain.link is not None and not self.quitting:
            self._tell(p.Stopping(name))
        else:
            self._finish(0)

    def _finish(self, result: int) -> None:
        """Nothing of ours survives us."""
        self.quitting = True
        survivors = self.programs.kill_all()
        log(f"ended; cannot kill {survivors}" if survivors else "ended")
        self.result = result


def _buried() -> list[tuple[int, int]]:
    """Pid and wait status of every child that has ended since the last time."""
    ended = []
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(found)
    except ChildProcessError:
        pass
    return ended


def _wake_on_signals() -> int:
    """A descriptor that gets a byte, the signal's number, for each signal."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_ENDING):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return read_end

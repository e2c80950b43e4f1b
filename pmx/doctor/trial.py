"""Run trials, each in a child process of its own, all at once, within a time; nothing of them is left afterwards.

The children of a trial's process become ours when it dies (prctl(2), PR_SET_CHILD_SUBREAPER), so they are found.
"""

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from pmx.doctor.finding import Finding
from pmx.keeper import linux

_DEATH_SIGNAL, _SUBREAPER = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER
_ENDING = (signal.SIGHUP, signal.SIGTERM)
"""What ends the doctor is made a KeyboardInterrupt, so that it clears up first."""
_BURIAL = 1.0
"""Seconds for what is left to die of SIGKILL."""


def patience() -> float:
    """The factor by which times are stretched: 1, or more where many processes wait for each processor, up to 5."""
    try:
        return min(5.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
    except OSError:
        return 1.0


class Trial(NamedTuple):
    """`run` yields a finding for each of `checks`. It runs in a process that is its own, with /dev/null on 0 to 2."""

    checks: tuple[str, ...]
    run: Callable[[], Iterator[Finding]]


def run_all(trials: Sequence[Trial], limit: float) -> list[Finding]:
    """A finding for each check of `trials`; missing for those that said nothing in `limit` seconds, or failed."""
    before = set(linux.children())
    linux.libc.prctl(_SUBREAPER, 1, 0, 0, 0)  # where it is denied, orphans end by themselves (shop.py: SERVER)
    handlers = [(number, signal.signal(number, signal.default_int_handler)) for number in _ENDING]
    reports: dict[int, tuple[Trial, bytearray]] = {}
    late: set[int] = set()
    try:
        for trial in trials:
            reports[_start(trial)] = trial, bytearray()
        late = _read_all(reports, time.monotonic() + limit)
    finally:
        for fd in reports:
            os.close(fd)
        _bury(before)
        linux.libc.prctl(_SUBREAPER, 0, 0, 0, 0)
        for number, handler in handlers:
            signal.signal(number, handler)
    overdue = f"the trial did not end within {limit:.2g} s"
    return [
        finding for fd, (trial, said) in reports.items() for finding in _findings(trial, said, overdue * (fd in late))
    ]


def _start(trial: Trial) -> int:
    """Fork `trial`; returns the end of the pipe on which it reports. Raises OSError."""
    read_end, write_end = os.pipe()
    try:
        if os.fork() == 0:
            _become(trial, write_end)
    except OSError:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return read_end


def _become(trial: Trial, report: int) -> NoReturn:
    try:
        os.setsid()  # Ctrl-C is for the doctor, who ends us
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        linux.libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for finding in trial.run():
            os.write(report, json.dumps(finding).encode() + b"\n")
    except OSError as error:
        os.write(report, json.dumps(f"the trial failed: {error}").encode() + b"\n")
    finally:
        os._exit(0)


def _read_all(reports: dict[int, tuple[Trial, bytearray]], deadline: float) -> set[int]:
    """Read until the end of each; returns those that did not end in time."""
    poll = select.poll()
    for fd in reports:
        poll.register(fd, select.POLLIN)
    open_ = set(reports)
    while open_ and (rest := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(rest * 1000):
            data = os.read(fd, 65536)
            reports[fd][1].extend(data)
            if not data:
                poll.unregister(fd)
                open_.discard(fd)
    return open_


def _findings(trial: Trial, said: bytearray, overdue: str) -> list[Finding]:
    found = []
    problem = overdue or "the trial ended and said nothing, which is an internal error"
    for line in said.split(b"\n")[:-1]:
        value = json.loads(line)
        if isinstance(value, str):
            problem = value
        else:
            found.append(Finding(*value))
    silent = [check for check in trial.checks if check not in {each.check for each in found}]
    return [*found, *(Finding(check, "missing", problem, "run pmx doctor again") for check in silent)]


def _bury(before: set[int]) -> None:
    """End our children but for those that were there `before`, and theirs, which become ours."""
    deadline = time.monotonic() + _BURIAL
    while (pids := set(linux.children()) - before) and time.monotonic() < deadline:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        signal.sigtimedwait((), 0.005)

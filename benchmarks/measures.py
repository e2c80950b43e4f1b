"""The benchmarks. Each takes the contenders and gives one table; a contender that fails is a row that says so.

Contenders alternate, in changing order, so that a noisy neighbour hits them alike; figures are medians.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from benchmarks import installs, processes
from benchmarks.contenders import Contender
from benchmarks.processes import Failed
from benchmarks.session import Session, session
from benchmarks.tables import Table, against, mebibytes, milliseconds, percent

T = TypeVar("T")

# What the design promises of pmx (its section 8): seconds and MiB.
TARGETS = {"ls": 0.1, "start": 0.6, "cold": 0.35, "memory, 0": 30.0, "memory, 100": 33.0}


@dataclass(frozen=True)
class Plan:
    contenders: list[Contender]
    absent: dict[str, str] = field(default_factory=dict)
    quick: bool = False
    all_peers: bool = False
    rounds_asked: int = 0

    def table(self, title: str, *columns: str) -> Table:
        table = Table(title, *columns)
        for name, reason in self.absent.items():
            table.remark(name, f"not installed ({reason})")
        return table

    def rounds(self, full: int, quick: int) -> int:
        return self.rounds_asked or self.less(full, quick)

    def less(self, full: int, quick: int) -> int:
        """Of anything else than rounds: seconds, say."""
        return quick if self.quick else full


def ls(plan: Plan) -> Table:
    """The wall time of the list, all contenders at work at the same time."""
    rounds = plan.rounds(20, 5)
    table = plan.table(f"ls: wall time with 10 processes, {rounds} rounds", "median", "min")
    timed = _base_lines()
    with ExitStack() as stack:
        for contender in plan.contenders:
            try:
                timed |= _filled(stack.enter_context(session(contender)), 10).listings()
            except Failed as error:
                table.remark(contender.name, f"failed ({error})")
        _settle(plan)
        samples = alternate(timed, rounds, table)
    for label, times in samples.items():
        median = statistics.median(times)
        cell = against(milliseconds(median), median * 1000, _target(label.partition(",")[0], "pmx ls", "ls", 1000))
        table.add(label, cell, milliseconds(min(times)))
    return table


def start(plan: Plan) -> Table:
    """From one command to 100 running processes; the daemon is up already."""
    rounds = plan.rounds(5, 1)

    def once(contender: Contender) -> tuple[float, float]:
        with session(contender) as opened:
            opened.start_daemon()
            time.sleep(0.5)
            return opened.start_programs(100)

    title = f"start: one command to 100 processes, the daemon is up, {rounds} rounds"
    return _starts(plan, title, rounds, once, "start")


def cold(plan: Plan) -> Table:
    """From one command to one running process; there is no daemon yet."""
    rounds = plan.rounds(7, 2)

    def once(contender: Contender) -> tuple[float, float]:
        with session(contender) as opened:
            return opened.cold_start()

    return _starts(plan, f"cold: no daemon to one running process, {rounds} rounds", rounds, once, "cold")


def memory(plan: Plan) -> Table:
    """What the daemons weigh, one contender at a time, for they share pages."""
    rounds = plan.rounds(3, 1)

    def once(contender: Contender) -> tuple[float, float, float]:
        with session(contender) as opened:
            opened.start_daemon()
            _settle(plan)
            empty, _ = processes.memory(opened.pids())
            opened.start_programs(100)
            _settle(plan)
            return empty, *processes.memory(opened.pids())

    columns = "PSS, 0 processes", "PSS, 100 processes", "RSS, 100 processes"
    table = plan.table(f"memory: the daemon and its keeper, {rounds} rounds", *columns)
    timed = {each.name: partial(once, each) for each in plan.contenders}
    for name, samples in alternate(timed, rounds, table, warm_up=False).items():
        empty, full, resident = map(statistics.median, zip(*samples, strict=True))
        first = against(mebibytes(empty), empty, _target(name, "pmx", "memory, 0"))
        table.add(name, first, against(mebibytes(full), full, _target(name, "pmx", "memory, 100")), mebibytes(resident))
    return table


def scale(plan: Plan) -> Table:
    """A thousand programs: what they cost at rest, and when somebody looks."""
    seconds = plan.less(10, 4)
    columns = "all running", "ls median", "ls min", "PSS", f"idle CPU over {seconds} s"
    table = plan.table("scale: 1,000 processes", *columns)

    def once(contender: Contender) -> None:
        with session(contender) as opened:
            opened.start_daemon()
            running, _ = opened.start_programs(1000)
            _settle(plan)
            idle = _cpu_share(opened.pids(), lambda: time.sleep(seconds))
            times = [opened.ls() for _ in range(plan.less(10, 5))]
            pss, _ = processes.memory(opened.pids())
            listing = milliseconds(statistics.median(times)), milliseconds(min(times))
            table.add(contender.name, milliseconds(running), *listing, mebibytes(pss), percent(idle))

    chosen = [each for each in plan.contenders if plan.all_peers or each.name == "pmx"]
    alternate({each.name: partial(once, each) for each in chosen}, 1, table, warm_up=False)
    return table


def crash(plan: Plan) -> Table:
    """Fifty programs that fail at once, again and again: is the daemon still there for others?"""
    seconds = plan.less(10, 4)
    title = f"crash: 50 programs that exit at once, for {seconds} s"
    table = plan.table(title, "ls median", "ls max", "lists", "daemon CPU", "program starts")

    def once(contender: Contender) -> None:
        with session(contender) as opened:
            opened.start_daemon()
            time.sleep(0.5)
            count, script = opened.home / "count", opened.home / "crash.sh"
            count.touch()
            script.write_text(f"echo >>{count}\nexit 1\n")
            times: list[float] = []
            share = _cpu_share(opened.pids(), lambda: times.extend(_watch_crashes(opened, str(script), seconds)))
            listing = milliseconds(statistics.median(times)), milliseconds(max(times)), str(len(times))
            table.add(contender.name, *listing, percent(share), f"{count.stat().st_size:,}")

    alternate({each.name: partial(once, each) for each in plan.contenders}, 1, table, warm_up=False)
    return table


def _watch_crashes(opened: Session, script: str, seconds: float) -> list[float]:
    """Start the programs, then time the list twice a second, at least once."""
    until = time.monotonic() + seconds
    try:
        opened.run(opened.contender.start_programs(opened.home, 50, ["sh", script]))
    except Failed:  # a contender may well say with its status that the programs do not stay up
        pass
    times = [opened.ls()]
    while time.monotonic() < until:
        time.sleep(0.5)
        times.append(opened.ls())
    return times


def _starts(
    plan: Plan, title: str, rounds: int, once: Callable[[Contender], tuple[float, float]], target: str
) -> Table:
    table = plan.table(title, "running, median", "min", "command returned, median")
    timed: dict[str, Callable[[], tuple[float, float]]] = {each.name: partial(once, each) for each in plan.contenders}
    for name, times in alternate(_base_lines(), rounds, table).items():
        table.add(name, milliseconds(statistics.median(times)), milliseconds(min(times)), "")
    for name, samples in alternate(timed, rounds, table).items():
        running, returned = zip(*samples, strict=True)
        median = statistics.median(running)
        cell = against(milliseconds(median), median * 1000, _target(name, "pmx", target, 1000))
        table.add(name, cell, milliseconds(min(running)), milliseconds(statistics.median(returned)))
    return table


def _base_lines() -> dict[str, Callable[[], float]]:
    env = processes.clean_environment()
    return {name: partial(processes.run, argv, env) for name, argv in installs.base_lines().items()}


def alternate(
    timed: Mapping[str, Callable[[], T]], rounds: int, table: Table, *, warm_up: bool = True
) -> dict[str, list[T]]:
    """Call each in turn: every round starts with another one, and every other goes backwards.

    One that fails gets a remark in the table and no more turns.
    """
    samples: dict[str, list[T]] = {label: [] for label in timed}
    order = list(timed)
    for number in range(-1 if warm_up else 0, rounds):
        order = order[1:] + order[:1]
        for label in order if number % 2 == 0 else order[::-1]:
            if label not in samples:
                continue
            try:
                result = timed[label]()
            except (Failed, OSError) as error:
                del samples[label]
                table.remark(label, f"failed ({error})")
                continue
            if number >= 0:
                samples[label].append(result)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return samples


def _filled(opened: Session, count: int) -> Session:
    opened.start_daemon()
    opened.start_programs(count)
    return opened


def _settle(plan: Plan) -> None:
    """Give daemons the time to finish what a start leaves to be done."""
    time.sleep(plan.less(3, 1))


def _target(label: str, ours: str, target: str, unit: float = 1) -> float | None:
    return TARGETS[target] * unit if label == ours else None


def _cpu_share(pids: list[int], action: Callable[[], None]) -> float:
    """The share of one core that `pids` use while `action` runs."""
    before, begin = processes.cpu_seconds(pids), time.monotonic()
    action()
    return (processes.cpu_seconds(pids) - before) / (time.monotonic() - begin)


BENCHMARKS: dict[str, Callable[[Plan], Table]] = {
    "ls": ls,
    "start": start,
    "cold": cold,
    "memory": memory,
    "scale": scale,
    "crash": crash,
}

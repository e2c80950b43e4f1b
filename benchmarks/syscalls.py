"""What the keeper's filter costs: other system calls by the processor's time, the trapped ones by the clock."""

import os
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial

from benchmarks import installs, processes
from benchmarks.contenders import Contender
from benchmarks.measures import Plan, alternate
from benchmarks.processes import Failed
from benchmarks.session import session
from benchmarks.tables import Table
from pmx.keeper import seccomp

NAMES = {
    "getppid": "getppid",
    "write+read": "write + read, 1 byte, pipe",
    "setsockopt": "setsockopt(TCP_NODELAY), which it looks at",
    "send+recv": "send + recv, 1 byte, TCP",
    "accept+close": "accept + close, TCP",
}
_BINDS = 200
_NO_FILTER = 99  # an exit status

Costs = Mapping[str, float]


def syscalls(plan: Plan) -> Table:
    """The same program with the filter and without, then the same under pmx and alone."""
    rounds = plan.rounds(21, 3)
    title = f"syscalls: ns per call, {rounds} rounds: CPU time, median (min)"
    table = plan.table(title, "without", "with the filter", "more, by median", "more, by min")
    try:
        program = str(installs.calls())
    except installs.Unavailable as problem:
        table.remark("syscalls", f"not measured ({problem})")
        return table
    _costs(table, program, rounds)
    _binds(table, plan, program)
    return table


def _costs(table: Table, program: str, rounds: int) -> None:
    turns = {label: partial(_cost, program, filtered) for label, filtered in (("without", False), ("with", True))}
    samples = alternate(turns, rounds, table)
    if len(samples) < len(turns):
        return
    for key, name in NAMES.items():
        bare, filtered = ([each[key] for each in samples[label]] for label in turns)
        more = [statistics.median(filtered) - statistics.median(bare), min(filtered) - min(bare)]
        table.add(name, *(_median_and_min(each) for each in (bare, filtered)), *(f"{each:+,.0f}" for each in more))


def _median_and_min(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f})"


def _cost(program: str, filtered: bool) -> Costs:
    """One run of the program. Its listener is made here: under the filter, its own would wait for an answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=511) as listener:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(program, listener, write, filtered)
        os.close(write)
        with open(read, encoding="ascii") as file:
            said = file.read()
        status = processes.wait(pid, 60, "calls")
    if status != 0:
        raise Failed("the filter cannot be installed" if status == _NO_FILTER else f"calls ended with {status}")
    return {name: float(value) for name, value in map(str.split, said.splitlines())}


def _become(program: str, listener: socket.socket, output: int, filtered: bool) -> None:
    """Execute the program, as the keeper does, but for who keeps the descriptor of the filter: here the program."""
    try:
        if filtered:
            os.set_inheritable(seccomp.install(), True)
        os.dup2(output, 1)
        os.set_inheritable(listener.fileno(), True)
        os.execv(program, [program, "cost", str(listener.fileno())])
    finally:
        os._exit(_NO_FILTER)


def _binds(table: Table, plan: Plan, program: str) -> None:
    """bind(2) and listen(2): trapped, answered by a keeper in Python."""
    turns = {"alone": partial(_bind_alone, program)}
    turns |= {each.name: partial(_bind_under, each, program) for each in plan.contenders if each.name == "pmx"}
    samples = alternate(turns, plan.rounds(5, 1), table)
    if len(samples) < 2:
        return
    for column, name in enumerate(("bind to port 0, not shared", "bind, shared", "listen, shared")):
        alone, trapped = (sorted(row[column] for rows in each for row in rows) for each in samples.values())
        more = statistics.median(trapped) - statistics.median(alone), trapped[0] - alone[0]
        table.add(
            f"{name}: by the clock, p50 / p99",
            _percentiles(alone),
            _percentiles(trapped),
            *(f"{each:+,.0f}" for each in more),
        )


def _percentiles(ordered: list[float]) -> str:
    return f"{statistics.median(ordered):,.0f} / {ordered[len(ordered) * 99 // 100]:,.0f}"


def _bind_alone(program: str) -> list[list[float]]:
    with tempfile.TemporaryDirectory(prefix="pmxb-") as directory:
        file = f"{directory}/calls.txt"
        pid = processes.spawn([program, "bind", str(_BINDS), file], processes.clean_environment())
        try:
            return _figures(file)
        finally:
            processes.end([pid])


def _bind_under(contender: Contender, program: str) -> list[list[float]]:
    with session(contender) as opened:
        opened.start_daemon()
        file = str(opened.home / "calls.txt")
        # That instances are asked for says that ports are to be shared.
        opened.run(contender.start_programs(opened.home, 1, [program, "bind", str(_BINDS), file]))
        return _figures(file)


def _figures(path: str) -> list[list[float]]:
    """The lines of the program's file, once it is complete."""
    until = time.monotonic() + 30
    while True:
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                *lines, last = file.read().splitlines() or [""]
            if last == "done":
                return [list(map(float, line.split())) for line in lines]
        if time.monotonic() > until:
            raise Failed("no figures after 30 s")
        time.sleep(0.05)

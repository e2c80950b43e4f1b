"""What a request costs with two workers behind one port: the same server under pmx, PM2, node's cluster, and alone.

The load generator has the same cores as the servers, so requests per second tell what is left of the machine rather
than what the servers could do; the robust figure is the time on a processor per request, of everything on the
serving side: workers, daemons, node's primary.
"""

import itertools
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import installs, processes
from benchmarks.contenders import Contender
from benchmarks.measures import Plan
from benchmarks.processes import Failed
from benchmarks.session import session
from benchmarks.tables import Table, microseconds

SERVERS = Path(__file__).parent / "servers"
CONNECTIONS = 64
FLOOR = "node × 2"
"""What two workers can cost at least: two processes, a port each, half of the connections each."""

# The issue's words: at most so many times the floor, at least so many times PM2's requests with Connection: close.
MOST_CPU, LEAST_REQUESTS = 1.1, 1.5

MODES: dict[str, list[str]] = {"keep-alive": [], "close": ["-H", "Connection: close"]}


class Served(NamedTuple):
    """A server that runs: the ports that answer, and whose work that is."""

    ports: list[int]
    workers: list[int]
    others: list[int]


Serving = Callable[[], AbstractContextManager[Served]]
"""Starts the server and ends it."""


class Load(NamedTuple):
    """What was seen while wrk asked for some seconds."""

    requests: int
    rate: float  # requests per second
    errors: int
    p99: float  # seconds
    cpu: float  # seconds on a processor per request, the whole serving side
    others: float  # the part of it that is not the workers'
    switches: float  # context switches of who is not a worker, per second
    busiest: float  # of the workers' time on a processor, the share of the busier one
    strangers: float  # share of the machine's processors that neither this server nor wrk used


Samples = dict[str, list[Load]]


def cluster(plan: Plan) -> Table:
    """CPU per request and requests per second, with connections kept alive and with one for each request."""
    rounds, passes, seconds = plan.rounds(5, 1), plan.less(3, 2), plan.less(2, 1)
    title = (
        f"cluster: node, 2 workers, {CONNECTIONS} connections, {rounds} × {passes} × {seconds} s: median (min to max)"
    )
    columns = "CPU/request", f"× {FLOOR}", "by min", "not workers", "switches/s", "requests/s", "× pm2", "p99", "busier"
    table = plan.table(title, *columns, "errors")
    try:
        wrk = installs.wrk()
    except installs.Unavailable as problem:
        table.remark("cluster", f"not measured ({problem})")
        return table
    samples: dict[str, Samples] = {mode: {} for mode in MODES}
    for number in range(rounds):
        _round(table, _turned(_servings(plan), number), samples, partial(_measure, wrk, seconds), passes)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for mode in MODES:
        _rows(table, mode, {name: samples[mode][name] for name in _servings(plan) if name in samples[mode]})
    elsewhere = [load.strangers for each in samples.values() for loads in each.values() for load in loads]
    if elsewhere:
        text = f"median {statistics.median(elsewhere) * 100:.0f} %, most {max(elsewhere) * 100:.0f} %"
        table.remark("of the machine, used by others", text)
    return table


def _turned(servings: dict[str, Serving], number: int) -> dict[str, Serving]:
    """Every round in another order."""
    names = list(servings)
    at = number % len(names)
    return {name: servings[name] for name in names[at:] + names[:at]}


def _round(
    table: Table,
    servings: dict[str, Serving],
    samples: dict[str, Samples],
    measure: Callable[[Served, list[str]], Load],
    passes: int,
) -> None:
    """Fresh servers, all at once, asked in turns of a few seconds, so that a noisy neighbour hits them alike."""
    with ExitStack() as stack:
        up: dict[str, Served] = {}
        for name, serving in servings.items():
            try:
                up[name] = stack.enter_context(serving())
            except Failed as error:
                table.remark(name, f"failed ({error})")
        for number, mode in itertools.product(range(-1, passes), MODES):  # the first pass warms them up
            for name in list(up) if number % 2 == 0 else list(up)[::-1]:
                try:
                    load = measure(up[name], MODES[mode])
                except Failed as error:
                    table.remark(name, f"failed ({error})")
                    del up[name]
                    continue
                if number >= 0:
                    samples[mode].setdefault(name, []).append(load)


def _servings(plan: Plan) -> dict[str, Serving]:
    """The floors first, then who is measured against them."""
    primary = str(SERVERS / "primary.js")
    servings: dict[str, Serving] = {
        "node": partial(_plain, "hello.js", 1, 1),
        FLOOR: partial(_plain, "hello.js", 2, 1),
        "node cluster": partial(_plain, Path(primary).name, 1, 2),
    }
    able = {each.name: each for each in plan.contenders if each.name in ("pm2", "pmx")}
    return servings | {name: partial(_managed, contender) for name, contender in able.items()}


@contextmanager
def _plain(script: str, count: int, workers: int) -> Iterator[Served]:
    """Nobody's program: `count` × node, a port each."""
    before, pids = _descendants(), list[int]()
    ports = [_free_port() for _ in range(count)]
    try:
        for port in ports:
            env = processes.clean_environment() | {"PORT": str(port)}
            # In a session, as all process managers do it: else it would have to share with wrk.
            pids.append(processes.spawn(["node", str(SERVERS / script)], env, session=True))
        yield _served(ports, before, count * workers)
    finally:
        processes.end(pids + [below for pid in pids for below in processes.descendants(pid)])


@contextmanager
def _managed(contender: Contender) -> Iterator[Served]:
    """Two workers of a process manager."""
    before, port = _descendants(), _free_port()
    with session(contender) as opened:
        opened.env["PORT"] = str(port)
        opened.start_daemon()
        opened.run(contender.start_programs(opened.home, 2, [str(SERVERS / "hello.js")]))
        yield _served([port], before, 2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _served(ports: list[int], before: set[int], count: int) -> Served:
    """Waits until every port answers and there are `count` workers. Raises Failed."""
    until = time.monotonic() + 15
    while not (all(map(_answers, ports)) and len(_workers(before)) == count):
        if time.monotonic() > until:
            raise Failed(f"{len(_workers(before))} of {count} workers after 15 s")
        time.sleep(0.05)
    time.sleep(1)  # a worker is seen before it listens
    workers = _workers(before)
    return Served(ports, workers, sorted(_descendants() - before - set(workers)))


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _descendants() -> set[int]:
    return set(processes.descendants(os.getpid()))


def _workers(before: set[int]) -> list[int]:
    return [pid for pid in _descendants() - before if "hello.js" in processes.command_line(pid)]


def _measure(wrk: str, seconds: int, served: Served, header: list[str]) -> Load:
    ports, workers, others = served
    begin, switched, busy = time.monotonic(), processes.switches(others), processes.busy_seconds()
    before = {pid: processes.cpu_seconds([pid]) for pid in (*workers, *others)}
    requests, rate, errors, p99 = _ask(wrk, ports, seconds, header)
    used = {pid: processes.cpu_seconds([pid]) - spent for pid, spent in before.items()}
    if not all(map(processes.is_alive, before)):
        raise Failed("a worker or a daemon ended")
    took, of_workers = time.monotonic() - begin, sum(used[pid] for pid in workers)
    strangers = processes.busy_seconds() - busy - sum(used.values())
    return Load(
        requests,
        rate,
        errors,
        p99,
        sum(used.values()) / requests,
        sum(used[pid] for pid in others) / requests,
        (processes.switches(others) - switched) / took,
        max(used[pid] for pid in workers) / of_workers,
        max(0.0, strangers) / took / (os.cpu_count() or 1),
    )


def _ask(wrk: str, ports: list[int], seconds: int, header: list[str]) -> tuple[int, float, int, float]:
    """One run of wrk: requests answered, per second, errors, 99th percentile in seconds. Raises Failed."""
    # Two threads, so that two ports are asked by the same client as one.
    argv = [wrk, "-t2", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(SERVERS / "load.lua"), *header]
    env = processes.clean_environment() | {"PORTS": " ".join(map(str, ports))}
    said = processes.output([*argv, f"http://127.0.0.1:{ports[0]}/"], env)
    line = next((line for line in said.splitlines() if line.startswith("figures")), "")
    if not line:
        raise Failed(f"wrk said no figures: {said[-200:]}")
    requests, took, errors, p99 = map(float, line.split()[1:])
    if requests == 0:
        raise Failed("no request was answered")
    return int(requests), requests / took * 1e6, int(errors), p99 / 1e6


def _rows(table: Table, mode: str, samples: Samples) -> None:
    floor, pm2 = samples.get(FLOOR, []), samples.get("pm2", [])
    for name, loads in samples.items():
        table.add(
            f"{mode}: {name}",
            f"{_middle(loads, 'cpu') * 1e6:.1f} µs {_span([each.cpu * 1e6 for each in loads])}",
            _ratio(_middle(loads, "cpu"), floor, "cpu"),
            _least_ratio(loads, floor),
            microseconds(_middle(loads, "others")),
            f"{_middle(loads, 'switches'):,.0f}",
            f"{_middle(loads, 'rate'):,.0f} {_span([each.rate for each in loads])}",
            _ratio(_middle(loads, "rate"), pm2, "rate"),
            f"{_middle(loads, 'p99') * 1e3:.0f} ms",
            f"{_middle(loads, 'busiest') * 100:.0f} %",
            str(sum(each.errors for each in loads)),
        )
    if "pmx" in samples and floor:
        _verdict(table, f"{mode}, CPU/request", _middle(samples["pmx"], "cpu") / _middle(floor, "cpu"), f"× {FLOOR}")
    if "pmx" in samples and pm2 and mode == "close":
        _verdict(table, f"{mode}, requests/s", _middle(samples["pmx"], "rate") / _middle(pm2, "rate"), "× pm2")


def _verdict(table: Table, what: str, ratio: float, unit: str) -> None:
    """What was promised of pmx, and whether it holds."""
    if unit == "× pm2":
        holds, promise = ratio >= LEAST_REQUESTS, f"at least {LEAST_REQUESTS:g}"
    else:
        holds, promise = ratio <= MOST_CPU, f"at most {MOST_CPU:g}"
    table.remark(f"pmx, {what}", f"{ratio:.2f} {unit} ({'ok' if holds else 'missed'}: {promise})")


def _middle(loads: list[Load], field: str) -> float:
    values: list[float] = [getattr(each, field) for each in loads]
    return statistics.median(values)


def _ratio(value: float, to: list[Load], field: str) -> str:
    return f"{value / _middle(to, field):.2f}" if to else ""


def _least_ratio(loads: list[Load], to: list[Load]) -> str:
    """The same of the minima, which a noisy neighbour spoils last."""
    return f"{min(each.cpu for each in loads) / min(each.cpu for each in to):.2f}" if to else ""


def _span(values: list[float]) -> str:
    return f"({min(values):,.0f} to {max(values):,.0f})"

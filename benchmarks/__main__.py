"""The command: ``python -m benchmarks [ls start cold memory scale crash cluster syscalls]``."""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks import contenders, installs, measures
from benchmarks.cluster import cluster
from benchmarks.measures import Plan
from benchmarks.processes import become_subreaper
from benchmarks.session import assert_nothing_left
from benchmarks.syscalls import syscalls

BENCHMARKS = measures.BENCHMARKS | {"cluster": cluster, "syscalls": syscalls}


def main() -> int:
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended on the way out
    plan = _plan(options)
    become_subreaper()
    print(_machine(), end="\n\n", flush=True)
    try:
        for name in options.which or BENCHMARKS:
            print(f"{name} ", end="", file=sys.stderr, flush=True)
            print(BENCHMARKS[name](plan), flush=True)
    finally:
        assert_nothing_left()
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="pmx and its peers, side by side.")
    parser.add_argument("which", nargs="*", metavar="BENCHMARK", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works, not to quote")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="instead of each benchmark's own number")
    parser.add_argument("--peers", default=",".join(contenders.NAMES), help="contenders (default: %(default)s)")
    parser.add_argument("--all-peers", action="store_true", help="all contenders in `scale`, which is pmx alone else")
    parser.add_argument("--pmx", type=Path, metavar="PATH", help="a pmx command (default: an install of this checkout)")
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    if unknown := [name for name in options.which if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(BENCHMARKS)}")
    if unknown := [name for name in options.peers if name not in contenders.NAMES]:
        parser.error(f"there is no contender {unknown[0]}: choose from {', '.join(contenders.NAMES)}")
    return options


def _plan(options: argparse.Namespace) -> Plan:
    plan = Plan([], quick=options.quick, all_peers=options.all_peers, rounds_asked=options.rounds)
    for name in options.peers:
        try:
            plan.contenders.append(contenders.make(name, options.pmx and options.pmx.absolute()))
        except installs.Unavailable as problem:
            plan.absent[name] = str(problem)
    return plan


def _machine() -> str:
    node = "no node"
    if shutil.which("node"):
        node = f"node {subprocess.check_output(['node', '--version'], text=True).strip()}"
    load = " ".join(f"{each:.2f}" for each in os.getloadavg())
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, load {load}, Linux {platform.release()}, {python}, {node}"


if __name__ == "__main__":
    sys.exit(main())

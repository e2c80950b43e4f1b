"""pmx in one of the modes, and the table at the end of the session."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT, Pmx
from tests.matrix import modes
from tests.matrix.catalogue import Installed, directory, installed

COLUMNS = ("mode", "server", "version", "result", "requests", "w1/w2", "errors", "errors at kill -9", "back after")


@pytest.fixture
def pmx(pmx: Pmx, request: pytest.FixtureRequest) -> Pmx:
    """The fixture of everybody, but that each command of it runs in the mode that the test has as a parameter."""
    mode = request.getfixturevalue("mode")
    why = modes.refusal(mode)
    if why:
        pytest.skip(f"mode {mode}: {why}")
    if mode == "user" and os.geteuid() == 0:
        for path in (pmx.root, pmx.work):
            os.chown(path, modes.UID, modes.UID)
    plain, reach = pmx.argv, _reach()
    pmx.argv = lambda *args: modes.wrapped(mode, plain(*args), reach)  # type: ignore[method-assign]
    pmx.env |= {"HOME": str(pmx.work), "PYTHONDONTWRITEBYTECODE": "1"}
    return pmx


def _reach() -> list[str]:
    """The directories that a user other than root must be able to read."""
    node = shutil.which("node")
    beside = [str(Path(node).resolve().parents[1])] if node else []
    places = [str(ROOT), sys.prefix, sys.base_prefix, str(directory()), *beside]
    return [place for place in places if os.path.isdir(place)]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the test finds out, for the table; a server that is not installed is skipped here, before anything starts.

    A report takes it along as it is when the test ends, or is skipped.
    """
    server, mode = (request.node.callspec.params[key] for key in ("server", "mode"))
    found = {"server": server.name, "mode": mode}
    request.node.user_properties.append(("matrix", found))
    there = installed().get(
        server.needs, Installed(False, "python -m tests.matrix.install has not tried to install it")
    )
    if not there.ok:
        pytest.skip(f"{server.name}: {there.why}")
    found["version"] = there.version
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [each for outcome in ("passed", "failed", "skipped") for each in terminalreporter.getreports(outcome)]
    rows = [_line(report) for report in reports if "matrix" in dict(report.user_properties)]
    if rows:
        terminalreporter.section("matrix: two workers behind one port")
        for line in (COLUMNS, ("---",) * len(COLUMNS), *sorted(rows)):
            terminalreporter.write_line(f"| {' | '.join(line)} |")


def _line(report: pytest.TestReport) -> tuple[str, ...]:
    found: Any = dict(report.user_properties)["matrix"]
    result = {"passed": "ok", "failed": "FAILED"}.get(report.outcome, "")
    if report.skipped and isinstance(report.longrepr, tuple):
        result = report.longrepr[2].replace("Skipped: ", "skipped: ")
    return tuple(found.get(column, result if column == "result" else "") for column in COLUMNS)

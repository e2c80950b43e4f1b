"""Generated files are as fresh as what they are made of, and completion works in a real bash."""

import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from pmx.core.lifecycle import Phase, Wanted
from tests.harness import ROOT, Pmx
from tools import diagram, generate, transitions


def test_generated_files_are_fresh() -> None:
    command = [sys.executable, "tools/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_file_is_told_with_a_diff(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generate, "generated", lambda: {"docs/reference/cli.md": lambda: "# Other\n"})
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr()
    assert "+# Other" in said.out
    assert "-# The command line" in said.out
    assert "make generate" in said.err


def test_the_diagram_refuses_what_it_has_no_arrow_for() -> None:
    found = transitions.explore()
    found.edges[Phase.STOPPED, "Gone"][Phase.ERRORED].add(Wanted.UP)
    with pytest.raises(ValueError, match="no arrow shows"):
        diagram.draw(found)


def test_the_diagram_refuses_an_arrow_for_nothing() -> None:
    found = transitions.explore()
    found.edges[Phase.STARTING, "Spawned"] = defaultdict(set)
    with pytest.raises(ValueError, match="nothing leads from"):
        diagram.draw(found)


# ── bash ────────────────────────────────────────────────────────────────────────────────────────────────────────

_COMPLETE = """
source completions/pmx.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_pmx
((${#COMPREPLY[@]})) && printf '%s\\n' "${COMPREPLY[@]}"
exit 0
"""


def complete(home: Path, bin_: Path, *words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    command = bin_ / "pmx"
    bin_.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pmx "$@"\n')
    command.chmod(0o755)
    environment = {"PMX_HOME": str(home), "PATH": f"{bin_}:/usr/bin:/bin", "HOME": str(bin_)}
    bash = ["bash", "--norc", "-c", _COMPLETE, "bash", *words]
    done = subprocess.run(bash, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pmx", "st"], ["start", "stop", "status"]),
        (["pmx", "start", "--ki"], ["--kill-timeout"]),
        (["pmx", "start", "app.py", "--no-t"], ["--no-treekill"]),
        (["pmx", "start", "--cwd", "examp"], ["examples"]),
        (["pmx", "start", "--stop-signal", "=", "SIGT"], ["SIGTERM"]),
        (["pmx", "start", "pyproj"], ["pyproject.toml"]),
        (["pmx", "start", "app.py", "--", "pyproj"], ["pyproject.toml"]),
        (["pmx", "start", "--name", "pyproj"], []),
        (["pmx", "stop", ""], ["all"]),
        (["pmx", "del", "a"], ["all"]),
        (["pmx", "ls", "a"], []),
        (["pmx", "nonsense", "a"], []),
    ],
)
def test_bash_completes(words: list[str], offered: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert complete(home, tmp_path / "bin", *words) == offered
    assert not home.exists()


def test_bash_starts_no_daemon_in_an_empty_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    assert complete(home, tmp_path / "bin", "pmx", "stop", "") == ["all"]
    assert not list(home.iterdir())


def test_bash_offers_names_and_executes_none(pmx: Pmx, tmp_path: Path) -> None:
    pmx("start", "sleep 1000", "--name", "sleeper", "--instances", "2")
    pmx("start", "sleep 1000", "--name", "sly $(touch sly)")
    assert complete(pmx.path, tmp_path / "bin", "pmx", "stop", "s") == ["sleeper"]
    assert not (ROOT / "sly").exists()

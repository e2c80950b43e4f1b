"""What is read of limits and mounts, from files as they look elsewhere."""

import os
import resource
from pathlib import Path

import pytest

from pmx.doctor import limits
from pmx.doctor.finding import Finding
from pmx.doctor.limits import cgroup_limit, file_system
from pmx.paths import Home


def tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "cg/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "cg/memory.max": "1000\n"}, 1000),  # a container
        ({"proc/self/cgroup": "0::/a/b\n", "cg/a/memory.max": "1000\n", "cg/a/b/memory.max": "max\n"}, 1000),
        ({"proc/self/cgroup": "0::/a/b\n", "cg/a/memory.max": "1000\n", "cg/a/b/memory.max": "500\n"}, 500),
        ({"proc/self/cgroup": "0::/../x\n", "cg/memory.max": "7\n"}, 7),  # a namespace that begins elsewhere
        ({"proc/self/cgroup": "4:cpu,memory:/a\n0::/\n", "cg/memory/a/memory.limit_in_bytes": "9\n"}, 9),
        ({"proc/self/cgroup": "4:memory:/a\n", "cg/memory/memory.limit_in_bytes": "8\n", "cg/memory.max": "1\n"}, 8),
        ({"proc/self/cgroup": "3:cpu:/\n", "cg/memory/memory.limit_in_bytes": "9\n"}, None),
        ({}, None),
    ],
)
def test_the_lowest_limit_of_the_cgroups(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    tree(tmp_path, files)
    places = str(tmp_path / "proc"), str(tmp_path / "cg")
    assert cgroup_limit("memory", "memory.max", "memory.limit_in_bytes", *places) == expected


MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:5 / /home rw shared:1 - nfs4 server:/home rw
24 22 0:6 / /with\040blank rw - tmpfs tmpfs rw
25 22 0:7 / /homework rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/etc", "ext4"), ("/home", "nfs4"), ("/home/me/x", "nfs4"), ("/with blank/x", "tmpfs"), ("/homework/x", "xfs")],
)
def test_the_kind_of_a_file_system(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system(path, str(tmp_path / "mounts")) == kind


def test_no_list_of_mounts_is_no_trouble(tmp_path: Path) -> None:
    assert file_system("/", str(tmp_path / "none")) == ""
    assert file_system("/") != ""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # the trial changes it
    (tmp_path / "scratch").mkdir()
    return str(tmp_path / "scratch")


def home(path: str, scratch: str) -> Finding:
    (found,) = limits.home(Home(path), scratch)
    (Path(scratch) / "socket").unlink(missing_ok=True)
    return found


def test_a_good_home(scratch: str) -> None:
    assert home("/tmp/h", scratch) == Finding("home")


def test_a_home_on_a_server_or_with_a_long_path(scratch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "its path is too long" in home("/tmp/" + "h" * 100, scratch).why
    monkeypatch.setattr(limits, "_REMOTE", (file_system(scratch),))
    found = home("/tmp/h", scratch)
    assert found.state == "restricted"
    assert "when the server is away, pmx waits" in found.why


@pytest.mark.parametrize(("none", "state"), [(0, "restricted"), (1 << 62, "missing")])
def test_a_full_disk(scratch: str, monkeypatch: pytest.MonkeyPatch, none: int, state: str) -> None:
    monkeypatch.setattr(limits, "_LITTLE_ROOM", 1 << 62)
    monkeypatch.setattr(limits, "_NO_ROOM", none)
    found = home("/tmp/h", scratch)
    assert found.state == state
    assert "there is room for" in found.why


def test_a_home_of_somebody_else(scratch: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("")
    found = home(str(theirs), scratch)
    assert found.state == "missing"
    assert "it is not a directory" in found.why
    assert found.change


def test_a_slow_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock").write_text("acpi_pm\n")
    monkeypatch.setattr(limits, "_CLOCK", str(tmp_path / "clock"))
    found = {each.check: each for each in _limits()}
    assert found["clock"].state == "restricted"
    assert "the clock source is acpi_pm" in found["clock"].why


def test_few_processes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "cgroup_limit", lambda *_: 150)
    found = {each.check: each for each in _limits()}
    assert found["processes"].state == "restricted"
    assert found["processes"].why == "the cgroup allows 150 processes and threads"
    assert found["memory"].state == "restricted"
    assert "programs and pmx share 150b" in found["memory"].why


def test_a_limit_of_processes_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (50, 50))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(limits, "_tasks_of", lambda uid: 20)
    found = {each.check: each for each in limits.limits()}
    assert found["processes"].why == "of 50 processes and threads that this user may have, 30 are left"
    assert found["descriptors"].state == "missing"


def _limits() -> list[Finding]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return list(limits.limits())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

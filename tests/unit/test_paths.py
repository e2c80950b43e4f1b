import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmx import paths
from pmx.errors import Refused, ResourceProblem
from pmx.paths import Home


@pytest.fixture
def long_home(tmp_path: Path) -> Iterator[Home]:
    """A home whose path leaves no room for a socket."""
    home = Home(str(tmp_path / ("x" * 120)))
    yield home
    shutil.rmtree(home.run, ignore_errors=True)


def test_every_name_is_under_the_home() -> None:
    home = Home("/h")
    assert (home.logs, home.snapshot) == ("/h/logs", "/h/state.json")
    assert (home.keeper_log, home.daemon_log) == ("/h/keeper.log", "/h/daemon.log")
    assert (home.control, home.events) == ("/h/control.sock", "/h/events.sock")
    assert home.log_file("web", 3, "error") == "/h/logs/web-error-3.log"


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PMX_HOME", "/a/b/../c/")
    assert paths.find().root == "/a/c"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PMX_HOME", "rel")
    assert paths.find().root == f"{os.path.realpath(tmp_path)}/rel"
    monkeypatch.setenv("PMX_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.find().root == "/home/me/.pmx"


@pytest.mark.parametrize("filler", ["x", "ü"])
def test_a_socket_has_room_in_its_address(filler: str) -> None:
    """107 bytes, not characters."""
    width = len(filler.encode())
    for bytes_in_all in range(90, 120):
        root = "/" + filler * ((bytes_in_all - len("//control.sock")) // width)
        home = Home(root)
        assert len(os.fsencode(home.control)) <= 107
        assert len(os.fsencode(home.events)) <= 107
        assert (home.run == root) == (len(os.fsencode(f"{root}/control.sock")) <= 107)


def test_long_homes_have_different_short_directories_that_never_change() -> None:
    one, two = Home("/" + "x" * 200), Home("/" + "x" * 199 + "y")
    assert one.run != two.run
    assert one.run == Home("/" + "x" * 200).run == f"/tmp/pmx-{os.geteuid()}-fa6e14c171f200fe"


def test_what_is_made_is_private(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "a" / "b"))
    umask = os.umask(0)
    try:
        paths.create(home)
        paths.create(home)
    finally:
        os.umask(umask)
    for path in (home.root, home.logs):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert os.listdir(home.root) == ["logs"]
    paths.check_ours(home)


def test_the_short_directory_is_made_too_and_private(long_home: Home) -> None:
    paths.create(long_home)
    assert stat.S_IMODE(os.lstat(long_home.run).st_mode) == 0o700


def test_a_home_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    paths.check_ours(Home(str(tmp_path / "none")))


@pytest.mark.parametrize("check", [paths.check_ours, paths.create])
@pytest.mark.parametrize("mode", [0o755, 0o701, 0o770])
def test_a_home_that_lets_others_in_is_refused(tmp_path: Path, check: object, mode: int) -> None:
    home = Home(str(tmp_path / "h"))
    os.mkdir(home.root)
    os.chmod(home.root, mode)
    with pytest.raises(Refused, match=f"its mode {mode:04o} lets others in") as caught:
        check(home)  # type: ignore[operator]  # either of the two
    assert f"chmod 700 {home.root}" in caught.value.hint
    assert os.listdir(home.root) == []


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "h"))
    Path(home.root).touch(0o600)
    for check in (paths.check_ours, paths.create):
        with pytest.raises(Refused, match="not a directory"):
            check(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things away")
def test_a_home_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "h"))
    paths.create(home)
    os.chown(home.root, 65534, 65534)
    for check in (paths.check_ours, paths.create):
        with pytest.raises(Refused, match="it belongs to uid 65534, not to you"):
            check(home)


def test_a_link_where_others_may_write_leads_nowhere(long_home: Home, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir(0o700)
    os.symlink(target, long_home.run)
    try:
        with pytest.raises(Refused, match="not a directory"):
            paths.create(long_home)
    finally:
        os.unlink(long_home.run)


def test_what_cannot_be_made_is_explained(tmp_path: Path) -> None:
    Path(tmp_path, "file").touch()
    with pytest.raises(Refused, match="cannot use"):
        paths.check_ours(Home(f"{tmp_path}/file/h"))
    with pytest.raises(ResourceProblem, match="cannot create /proc/none/h"):
        paths.create(Home("/proc/none/h"))


@pytest.mark.skipif(os.geteuid() != 0, reason="root takes the rights of a plain user here")
def test_a_directory_that_may_not_be_written_is_refused(short_dir: str) -> None:
    os.setresuid(65534, 65534, 0)
    try:
        with pytest.raises(Refused, match=f"cannot create {short_dir}/h: Permission denied"):
            paths.create(Home(f"{short_dir}/h"))
    finally:
        os.setresuid(0, 0, 0)

"""The rules of `pmx start`: what one option means, and what the options come to."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmx.config import launch
from pmx.config.launch import Options, is_ecosystem, is_in_list, named, spec_of
from pmx.core.spec import AppSpec, Identity
from pmx.errors import ProgramProblem, UsageProblem


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., AppSpec]:
    """spec_of for a program in a directory of its own."""
    program = tmp_path / "app"
    program.write_bytes(b"\x7fELF\0")
    program.chmod(0o755)
    (tmp_path / "sub").mkdir()
    (tmp_path / "python3").symlink_to(program)
    (tmp_path / "app.py").touch()

    def start(target: str = "./app", environ: dict[str, str] | None = None, **options: Any) -> AppSpec:
        return spec_of(target, Options(**options), (), str(tmp_path), {"PATH": str(tmp_path), **(environ or {})})

    return start


# --- one word -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("12", 12), ("max", 4), ("0", 4), ("-1", 3), ("-3", 1), ("-4", 1), ("-99", 1)]
)
def test_instances(text: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert launch.instances(text) == number


@pytest.mark.parametrize("text", ["", "many", "1.5", "Max", "9" * 5000])
def test_instances_that_are_no_number(text: str) -> None:
    with pytest.raises(UsageProblem, match="it is no number"):
        launch.instances(text)


@pytest.mark.parametrize(("text", "codes"), [("0", (0,)), ("0,3", (0, 3)), (" 1, 2 255", (1, 2, 255)), ("", ())])
def test_exit_codes(text: str, codes: tuple[int, ...]) -> None:
    assert launch.exit_codes(text) == codes


@pytest.mark.parametrize("text", ["256", "-1", "x", "0;3"])
def test_exit_codes_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageProblem, match="cannot read the exit codes"):
        launch.exit_codes(text)


@pytest.mark.parametrize(
    ("text", "name"), [("auto", "auto"), ("SIGTERM", "SIGTERM"), ("quit", "SIGQUIT"), ("sigUsr1", "SIGUSR1")]
)
def test_signals(text: str, name: str) -> None:
    assert launch.signal_name(text) == name


@pytest.mark.parametrize("text", ["", "SIGFOO", "15", str(signal.SIGTERM.value)])
def test_signals_that_do_not_exist(text: str) -> None:
    with pytest.raises(UsageProblem, match="no such signal"):
        launch.signal_name(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (None, ""), ("", ""), ("NULL", "/dev/null"), ("/dev/null", "/dev/null"), ("logs/../a.log", "/project/a.log"),
        ("/var/log/a.log", "/var/log/a.log"), ("~/a.log", "/home/me/a.log"),
    ],
)  # fmt: skip
def test_log_paths(text: str | None, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert launch.log_path(text, "/project") == path


@pytest.mark.parametrize(
    ("text", "pair"), [("A=b", ("A", "b")), ("A=", ("A", "")), ("A=b=c", ("A", "b=c")), ("A= b", ("A", " b"))]
)
def test_assignments(text: str, pair: tuple[str, str]) -> None:
    assert launch.assignment(text) == pair


@pytest.mark.parametrize("text", ["A", "", "=b", "A=b\0c"])
def test_assignments_that_are_none(text: str) -> None:
    with pytest.raises(UsageProblem, match="it must be KEY=VALUE") as caught:
        launch.assignment(text)
    assert "b" not in caught.value.message.partition("it must")[0].partition("--env")[2]  # the value may be a secret


def test_words_are_split_as_a_shell_does() -> None:
    assert launch.words("-X 'a b' c\\ d") == ["-X", "a b", "c d"]
    with pytest.raises(UsageProblem, match="no closing quotation"):
        launch.words("a 'b")


def test_a_directory_must_be_there(tmp_path: Path) -> None:
    assert launch.directory(None, str(tmp_path)) == str(tmp_path)
    (tmp_path / "file").touch()
    for wrong in ("file", "missing"):
        with pytest.raises(UsageProblem, match="there is no such directory"):
            launch.directory(wrong, str(tmp_path))


# --- who it runs as -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uid", "gid"), [("root", None), (None, "root"), ("0", "0")])
def test_only_root_may_say_who(uid: str | None, gid: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageProblem, match="only root may"):
        launch.identity(uid, gid)
    assert launch.identity(None, None) == Identity()


def test_names_and_numbers_of_users_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getgrouplist", lambda name, main: [main, 77])
    assert launch.identity("root", None) == launch.identity("0", None) == Identity(0, 0, (0, 77))
    assert launch.identity("root", "4321") == Identity(0, 4321, (4321, 77))
    assert launch.identity(None, "root") == Identity(gid=0, groups=(0,))


@pytest.mark.parametrize("name", ["", "no-such", "a\0b", "4294967295", "9" * 30, "9" * 5000, "²", "-1"])
def test_users_and_groups_that_do_not_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageProblem, match="there is no such user"):
        launch.identity(name, None)
    with pytest.raises(UsageProblem, match="there is no such group"):
        launch.identity(None, name)


# --- what a target is ---------------------------------------------------------------------------------------

RECORDS = [{"name": "web", "namespace": "shop", "id": 3}]


@pytest.mark.parametrize(
    ("target", "found"), [("web", True), ("shop", True), ("3", True), ("all", True), ("/we/", True), ("//", False),
                          ("4", False), ("we", False)]
)  # fmt: skip
def test_what_is_in_the_list(target: str, found: bool) -> None:
    assert is_in_list(target, Options(), lambda: RECORDS) is found


def test_a_file_or_a_description_means_a_new_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> list[dict[str, Any]]:
        raise AssertionError("the daemon need not be asked")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "web").touch()
    assert not is_in_list("web", Options(), nobody)
    assert not is_in_list("shop", Options(name="x"), nobody)
    assert not is_in_list("all", Options(env=["A=b"]), nobody)


def test_options_that_were_given() -> None:
    assert named(Options()) == []
    assert named(Options(instances="2", no_autorestart=True, max_restarts=0)) == [
        "--instances", "--no-autorestart", "--max-restarts",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "A.YML", "package.json"])
def test_ecosystem_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert not is_ecosystem(str(path))
    path.touch()
    assert is_ecosystem(str(path))


def test_what_is_no_ecosystem_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    (tmp_path / "dir.yaml").mkdir()
    assert not is_ecosystem(str(tmp_path / "a.py"))
    assert not is_ecosystem(str(tmp_path / "dir.yaml"))


# --- all of it ----------------------------------------------------------------------------------------------


def test_the_least_that_can_be_said(start: Callable[..., AppSpec], tmp_path: Path) -> None:
    spec = start(environ={"A": "b"})
    assert spec == AppSpec("app", spec.command)
    assert spec.command.argv == (str(tmp_path / "app"),)
    assert spec.command.cwd == str(tmp_path)
    assert spec.command.env == {"PATH": str(tmp_path), "A": "b"}


def test_durations_are_seconds_and_bare_numbers_milliseconds(start: Callable[..., AppSpec]) -> None:
    spec = start(min_uptime="500", restart_delay="2s", kill_timeout="1m30s", max_restarts=-1)
    assert (spec.restart.min_uptime, spec.restart.restart_delay, spec.restart.max_restarts) == (0.5, 2.0, -1)
    assert spec.stop.kill_timeout == 90.0
    for option in ("min_uptime", "restart_delay", "kill_timeout"):
        with pytest.raises(UsageProblem, match="cannot read the duration 'soon'"):
            start(**{option: "soon"})


def test_policies(start: Callable[..., AppSpec]) -> None:
    spec = start(no_autorestart=True, no_treekill=True, stop_exit_codes="0,3", stop_signal="int")
    assert (spec.restart.autorestart, spec.restart.stop_exit_codes) == (False, (0, 3))
    assert (spec.stop.treekill, spec.stop.signal) == (False, "SIGINT")


def test_of_variables_the_said_beat_the_shells_and_those_the_defaults(start: Callable[..., AppSpec]) -> None:
    assert start("app.py").command.env["PYTHONUNBUFFERED"] == "1"
    assert start("app.py", environ={"PYTHONUNBUFFERED": ""}).command.env["PYTHONUNBUFFERED"] == ""
    given = ["PYTHONUNBUFFERED=x", "A=1", "A=2"]
    env = start("app.py", environ={"PYTHONUNBUFFERED": "", "A": "0"}, env=given).command.env
    assert (env["PYTHONUNBUFFERED"], env["A"]) == ("x", "2")


def test_the_working_directory_is_not_where_the_script_is_looked_up(
    start: Callable[..., AppSpec], tmp_path: Path
) -> None:
    spec = start(cwd="sub", output="a.log")
    assert spec.command.cwd == str(tmp_path / "sub")
    assert spec.command.script == str(tmp_path / "app")
    assert spec.logs.out_file == str(tmp_path / "a.log")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cwd", "nowhere"), ("name", "all"), ("instances", "x"), ("stop_exit_codes", "x"), ("stop_signal", "x"),
        ("env", ["x"]), ("interpreter_args", "'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(start: Callable[..., AppSpec], option: str, value: Any) -> None:
    with pytest.raises(UsageProblem):
        start(**{option: value})


def test_a_program_that_is_not_there(start: Callable[..., AppSpec]) -> None:
    with pytest.raises(ProgramProblem):
        start("./missing")


def test_the_umask_is_the_callers(start: Callable[..., AppSpec]) -> None:
    before = os.umask(0o027)
    try:
        assert start().command.umask == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)

"""pmx start: what it accepts, what it refuses, and what it leaves."""

import os
import stat
from pathlib import Path

from tests.harness import APPS, Pmx, alive, eventually


def test_a_script_runs_and_is_listed(pmx: Pmx) -> None:
    said = pmx("start", str(APPS / "ready.py"))
    assert said.stdout.startswith("started ready\n")
    found = pmx.one("ready")
    assert found["pm2_env"]["status"] == "online"
    assert found["pm_id"] == 0
    assert alive(found["pid"])
    assert found["pid"] == os.getsid(found["pid"]) == os.getpgid(found["pid"])


def test_instances_know_their_number(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), "-n", "web", "-i", "3", "--env", "GREETING=hello")
    processes = pmx.jlist()
    assert [each["pm_id"] for each in processes] == [0, 1, 2]
    for number, each in enumerate(processes):
        environment = _environment(each["pid"])
        assert environment["NODE_APP_INSTANCE"] == environment["PMX_INSTANCE"] == str(number)
        assert environment["PMX_ID"] == str(each["pm_id"])
        assert environment["PMX_NAME"] == "web"
        assert environment["GREETING"] == "hello"


def test_arguments_after_two_dashes_are_the_programs_own(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), "--name", "a", "--", "--port", "80", "-i", "two words")
    line = eventually(lambda: pmx.log("a-out-0.log"))
    assert line.strip().endswith("--port 80 -i two words")


def test_a_binary_and_a_quoted_command_line(pmx: Pmx) -> None:
    pmx("start", "sleep", "-n", "binary", "--", "1000")
    pmx("start", "sleep 1001", "-n", "line")
    assert Path(f"/proc/{pmx.one('binary')['pid']}/cmdline").read_bytes().endswith(b"sleep\x001000\0")
    assert Path(f"/proc/{pmx.one('line')['pid']}/cmdline").read_bytes().endswith(b"sleep\x001001\0")


def test_several_at_once(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), str(APPS / "only_int.py"))
    assert {each["name"] for each in pmx.jlist()} == {"ready", "only_int"}


def test_the_projects_own_python_is_used(pmx: Pmx) -> None:
    environment = pmx.work / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (environment / "bin" / "python").symlink_to(os.path.realpath("/usr/bin/python3"))
    (pmx.work / "app.py").write_text("import sys, signal; print(sys.prefix, flush=True); signal.pause()\n")
    pmx("start", "app.py")
    assert pmx.one("app")["pm2_env"]["exec_interpreter"] == str(environment / "bin" / "python")


def test_working_directory_and_umask_are_the_callers(pmx: Pmx) -> None:
    (pmx.work / "sub").mkdir()
    (pmx.work / "make.py").write_text("import signal; open('made', 'w').close(); signal.pause()\n")
    pmx("start", "make.py", "--cwd", "sub", preexec_fn=lambda: os.umask(0o027))
    made = pmx.work / "sub" / "made"
    eventually(made.exists)
    assert stat.S_IMODE(made.stat().st_mode) == 0o640


def test_the_environment_is_the_callers_and_the_daemons_is_not(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), env={**pmx.env, "SECRET": "hunter2"})
    assert _environment(pmx.one("ready")["pid"])["SECRET"] == "hunter2"
    for pid in pmx.keeper_and_daemon():
        assert "SECRET" not in _environment(pid)
    for words in ("jlist", "ls"):
        assert "hunter2" not in pmx(words).stdout
    assert "hunter2" not in pmx("describe", "ready").stdout
    assert "hunter2" not in pmx.tell()


def test_starting_what_is_stopped_starts_it_again(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"))
    before = pmx.one("ready")["pid"]
    pmx("stop", "ready")
    assert pmx.one("ready")["pm2_env"]["status"] == "stopped"
    pmx("start", "ready")
    after = pmx.one("ready")
    assert after["pm2_env"]["status"] == "online"
    assert after["pid"] not in (0, before)


def test_a_stopped_name_may_be_given_anew_and_keeps_its_ids(pmx: Pmx) -> None:
    pmx("start", "sleep", "-n", "it", "-i", "2", "--", "1000")
    pmx("stop", "it")
    pmx("start", str(APPS / "ready.py"), "-n", "it", "-i", "3")
    assert [each["pm_id"] for each in pmx.jlist()] == [0, 1, 2]
    assert {each["pm2_env"]["pm_exec_path"] for each in pmx.jlist()} == {str(APPS / "ready.py")}


def _environment(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)

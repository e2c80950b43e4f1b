"""One daemon a home, private, started when needed, and gone without a trace."""

import os
import signal
import stat
import subprocess
from pathlib import Path

from tests.harness import APPS, Pmx, alive, eventually, wait_for_end


def test_the_daemon_is_started_on_first_need_and_shared(pmx: Pmx) -> None:
    assert "no daemon" in pmx("kill").stdout
    assert not pmx.path.exists()
    first = pmx.keeper_and_daemon()
    assert pmx.keeper_and_daemon() == first


def test_many_first_commands_at_once_start_one_daemon(pmx: Pmx) -> None:
    crowd = [subprocess.Popen(pmx.argv("ping"), env=pmx.env, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = {each.communicate(timeout=60)[0] for each in crowd}
    assert len(answers) == 1
    assert sum("keeper/__main__" in command for command in pmx.processes().values()) == 1


def test_everything_in_the_home_is_private(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"))
    eventually(lambda: (pmx.path / "state.json").exists())
    assert stat.S_IMODE(pmx.path.stat().st_mode) == 0o700
    for entry in pmx.path.rglob("*"):
        assert stat.S_IMODE(entry.stat().st_mode) & 0o077 == 0, entry
    assert {entry.name for entry in pmx.path.iterdir() if entry.is_socket()} == {"control.sock", "events.sock"}


def test_kill_leaves_no_process_socket_or_file_but_logs(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), "-i", "2")
    assert len(pmx.processes()) == 4
    said = pmx("kill").stdout
    assert said == "stopped 2 programs and the daemon\n"
    assert pmx.processes() == {}
    assert {entry.name for entry in pmx.path.iterdir()} == {"logs", "keeper.log", "daemon.log"}


def test_a_home_with_a_path_too_long_for_a_socket(pmx: Pmx) -> None:
    home = pmx.root / ("long" * 40) / "home"
    env = {**pmx.env, "PMX_HOME": str(home)}
    pmx("start", str(APPS / "ready.py"), env=env)
    assert "online" in pmx("ls", env=env).stdout
    (short,) = (Path("/tmp") / name for name in os.listdir("/tmp") if name.startswith(f"pmx-{os.geteuid()}-"))
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    pmx("kill", env=env)
    assert not short.exists()


def test_a_daemon_that_dies_is_replaced_and_programs_do_not_notice(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), "-i", "3")
    pmx("start", "false", "-n", "down", "--restart-delay", "1h", status=8)
    before = pmx.jlist()
    keeper, daemon = pmx.keeper_and_daemon()
    os.kill(daemon, signal.SIGKILL)
    wait_for_end(daemon)
    after = pmx.jlist()
    assert [(e["pid"], e["pm_id"], e["pm2_env"]["restart_time"], e["pm2_env"]["status"]) for e in after] == [
        (e["pid"], e["pm_id"], e["pm2_env"]["restart_time"], e["pm2_env"]["status"]) for e in before
    ]
    assert pmx.keeper_and_daemon()[0] == keeper
    assert "was killed by SIGKILL" in pmx.log("keeper.log")
    pmx("stop", "ready")
    assert not any(alive(each["pid"]) for each in before if each["pid"])


def test_a_program_that_ends_while_there_is_no_daemon_is_not_forgotten(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"), "--no-autorestart")
    pid = pmx.one("ready")["pid"]
    _, daemon = pmx.keeper_and_daemon()
    os.kill(daemon, signal.SIGSTOP)
    os.kill(pid, signal.SIGTERM)
    wait_for_end(pid)
    os.kill(daemon, signal.SIGKILL)
    wait_for_end(daemon)
    found = pmx.one("ready")["pm2_env"]
    assert (found["pmx_status"], found["exit_code"]) == ("completed", 0)


def test_sigterm_to_the_keeper_ends_all_and_what_was_up_comes_up_again(pmx: Pmx) -> None:
    """As at a machine's shutdown; what was wanted is kept."""
    pmx("start", str(APPS / "ready.py"))
    pmx("start", "sleep", "-n", "idle", "--", "1000")
    pmx("stop", "idle")
    keeper, _ = pmx.keeper_and_daemon()
    os.kill(keeper, signal.SIGTERM)
    wait_for_end(keeper)
    assert pmx.processes() == {}
    eventually(lambda: pmx.one("ready")["pm2_env"]["status"] == "online")
    assert pmx.one("idle")["pm2_env"]["status"] == "stopped"


def test_a_program_whose_keeper_was_killed_is_not_started_twice(pmx: Pmx) -> None:
    pmx("start", str(APPS / "ready.py"))
    pid = pmx.one("ready")["pid"]
    eventually(lambda: f'"pid":{pid}' in (pmx.path / "state.json").read_text())
    keeper, daemon = pmx.keeper_and_daemon()
    os.kill(keeper, signal.SIGKILL)
    wait_for_end(keeper)
    wait_for_end(daemon)
    found = pmx.one("ready")
    assert found["pm2_env"]["status"] == "errored"
    assert f"pid {pid} still runs" in pmx("describe", "ready").stdout
    assert alive(pid)
    os.kill(pid, signal.SIGTERM)


def test_what_the_first_shell_had_open_reaches_nobody(pmx: Pmx) -> None:
    with open(pmx.root / "private", "w") as file:
        os.set_inheritable(file.fileno(), True)
        pmx("start", "sleep", "--", "1000", close_fds=False)
    for pid in pmx.processes():
        opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert str(pmx.root / "private") not in opened
    assert sorted(os.listdir(f"/proc/{pmx.one('sleep')['pid']}/fd")) == ["0", "1", "2"]


def test_jlist_starts_a_daemon_but_prints_nothing_else(pmx: Pmx) -> None:
    assert pmx("jlist").stdout == "[]\n"


def test_versions(pmx: Pmx) -> None:
    alone = pmx("version").stdout
    assert alone.count("\n") == 1
    assert pmx("--version").stdout.strip() == alone.split()[1]
    pmx("ping")
    assert "daemon" in pmx("version").stdout


def test_help_names_every_command(pmx: Pmx) -> None:
    text = pmx("--help").stdout
    for name in ("start", "stop", "restart", "delete", "ls", "describe", "logs", "jlist", "ping", "kill", "version"):
        assert f"\n  {name}" in text
        assert "Usage: pmx " + name in pmx(name, "--help").stdout


def test_a_daemon_that_cannot_listen_ends_and_says_why(pmx: Pmx) -> None:
    """It used to wait for ever for its own event socket."""
    (pmx.path / "control.sock" / "x").mkdir(parents=True)
    pmx.path.chmod(0o700)
    said = pmx("ping", status=7).stderr
    assert "before it was ready" in said
    assert "Traceback" in pmx.log("daemon.log")
    (pmx.path / "control.sock" / "x").rmdir()
    (pmx.path / "control.sock").rmdir()
    pmx("ping")

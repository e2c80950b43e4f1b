"""The keeper and the daemon as they are started, together."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pmx.client.launch import is_running
from pmx.client.session import Session
from pmx.paths import Home, create
from tests.unit.support import ROOT, alive, await_end, descriptors, read_until, status_mask


class Keeper:
    """A keeper of `home`, started as the client does, but as our child."""

    def __init__(self, home: Home, extra_fd: int = -1) -> None:
        create(home)
        self.home = home
        read_end, write_end = os.pipe()
        argv = ["-I", "-S", f"{ROOT}/pmx/keeper/__main__.py", "--home", home.root, "--ready-fd", str(write_end)]
        fds = [write_end, *([extra_fd] if extra_fd >= 0 else [])]
        self.process = subprocess.Popen(
            [sys.executable, *argv], stdin=subprocess.DEVNULL, pass_fds=fds, env={"PATH": os.environ["PATH"]}
        )
        os.close(write_end)
        self.said = read_until(read_end).decode()
        os.close(read_end)

    def ask(self, verb: str, **args: Any) -> Any:
        with Session(self.home, lambda: is_running(self.home)) as session:
            return session.ask(verb, args)

    def start(self, *argv: str) -> int:
        """Start a program; its pid."""
        command = {"argv": argv, "cwd": "/", "env": {"PATH": os.environ["PATH"], "HOME": self.home.root}}
        (record,) = self.ask("start", spec={"name": "app", "command": command})["records"]
        pid: int = record["pid"]
        return pid

    def log(self) -> str:
        return Path(self.home.keeper_log).read_text()

    def end(self) -> int:
        await_end(self.process.pid)
        return self.process.wait()


@pytest.fixture
def keeper(nothing_left: None, short_home: Home) -> Iterator[Keeper]:
    made = Keeper(short_home)
    try:
        assert made.said == "\n"
        yield made
        if made.process.poll() is None:
            made.process.terminate()
            assert made.end() == 0
    finally:
        made.process.kill()
        made.process.wait()


def test_a_second_keeper_finds_the_home_taken(keeper: Keeper) -> None:
    second = Keeper(keeper.home)
    assert second.said == "already running\n"
    assert second.end() == 0
    assert keeper.ask("ping")["keeper"] == keeper.process.pid


def test_it_is_detached_and_named(keeper: Keeper) -> None:
    pid = keeper.process.pid
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert Path(f"/proc/{pid}/comm").read_text() == "pmx-keeper\n"
    assert descriptors(pid)[0] == "/dev/null"
    assert descriptors(pid)[1] == descriptors(pid)[2] == keeper.home.keeper_log
    assert os.stat(keeper.home.keeper_log).st_mode & 0o777 == 0o600
    assert status_mask(pid, "SigIgn") & 1 << signal.SIGHUP - 1


def test_nobody_keeps_what_the_starter_had_open(nothing_left: None, short_home: Home) -> None:
    ours, theirs = socket.socketpair()
    keeper = Keeper(short_home, theirs.fileno())
    theirs.close()
    assert keeper.said == "\n"
    keeper.start("/bin/sleep", "600")
    assert read_until(ours.fileno(), b"never") == b""  # the end: nobody holds the other side
    ours.close()
    keeper.process.terminate()
    assert keeper.end() == 0


def test_a_daemon_that_is_killed_comes_back_and_the_programs_stay(keeper: Keeper) -> None:
    pid = keeper.start("/bin/sleep", "600")
    for _ in range(2):
        before = keeper.ask("ping")["pid"]
        os.kill(before, signal.SIGKILL)
        await_end(before)
        after = keeper.ask("ping")
        assert after["pid"] != before
        assert after["keeper"] == keeper.process.pid
        (record,) = keeper.ask("ls")
        assert (record["pid"], record["status"], record["restarts"]) == (pid, "online", 0)
    assert alive(pid)
    said = re.findall(
        r"the daemon \(pid \d+\) was killed by SIGKILL after .* s; starting it again in (.*) s", keeper.log()
    )
    assert said == ["0.1", "0.2"]


def test_a_program_that_ended_meanwhile_is_not_missed(keeper: Keeper) -> None:
    pid = keeper.start("/bin/sleep", "600")
    daemon = keeper.ask("ping")["pid"]
    os.kill(daemon, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    await_end(daemon)
    (record,) = keeper.ask("describe", selectors=["app"])
    assert record["pid"] != pid
    assert record["exit"] == "killed by SIGKILL"


def test_told_to_end_it_ends_everything(keeper: Keeper) -> None:
    family = "(setsid sleep 600 &); sleep 600 & wait"
    pids = [keeper.start("/bin/sh", "-c", family), keeper.ask("ping")["pid"]]
    group = pids[0]
    os.kill(keeper.process.pid, signal.SIGTERM)
    assert keeper.end() == 0
    assert not any(map(alive, pids))
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_kill_ends_the_daemon_and_the_keeper(keeper: Keeper) -> None:
    pid = keeper.start("/bin/sleep", "600")
    assert keeper.ask("kill") == {"stopped": 1, "keeper": keeper.process.pid}
    assert keeper.end() == 0
    assert not alive(pid)
    assert not is_running(keeper.home)
    assert "as it said it would" in keeper.log()
    assert sorted(os.listdir(keeper.home.root)) == ["daemon.log", "keeper.log", "logs"]


def test_a_daemon_that_cannot_start_is_explained_and_leaves_no_keeper(nothing_left: None, short_home: Home) -> None:
    create(short_home)
    os.mkdir(short_home.daemon_log)
    keeper = Keeper(short_home)
    assert keeper.said == "the daemon exited with code 1 before it was ready\n"
    assert keeper.end() == 1
    assert not is_running(short_home)


def test_a_log_that_cannot_be_written_is_explained(nothing_left: None, short_home: Home) -> None:
    create(short_home)
    os.mkdir(short_home.keeper_log)
    keeper = Keeper(short_home)
    assert keeper.said == f"cannot write {short_home.keeper_log}: Is a directory\n"
    assert keeper.end() == 1


def test_the_command_line_is_checked() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", f"{ROOT}/pmx/keeper/__main__.py", "--home"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "usage: keeper --home DIR --ready-fd N\n")


def test_it_imports_the_standard_library_and_itself_only() -> None:
    script = (
        f"import sys; sys.path.insert(0, {ROOT!r}); import pmx.keeper.loop, pmx.keeper.__main__; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    ours = {name for name in foreign if name == "pmx" or name == "pmx.keeper" or name.startswith("pmx.keeper.")}
    assert foreign - {"__main__"} == ours

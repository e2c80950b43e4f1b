import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pmx.keeper import protocol as p
from tests.unit.keeper.stage import Daemon, Stage
from tests.unit.support import alive, await_end, children_of, read_until


def order(script: str, key: str = "0", **more: Any) -> p.Spawn:
    value = f"{key}.1@/test"
    env = {"PATH": os.environ["PATH"], "PMX_RUN": value}
    return p.Spawn(key, 1, ["/bin/sh", "-c", script], env, "/", "", "", marker=f"PMX_RUN={value}")._replace(**more)


@pytest.fixture
def daemon(stage: Stage) -> Daemon:
    return stage.ready()


@pytest.fixture
def out(daemon: Daemon) -> Iterator[int]:
    """The log pipe called out."""
    fd = daemon.pipe("log:out")
    yield fd
    os.close(fd)


def pid_from(fd: int) -> int:
    """The pid that a program printed."""
    return int(read_until(fd))


def test_a_program_is_started_and_its_end_is_told(daemon: Daemon) -> None:
    daemon.say(order("exit 3"))
    spawned = daemon.hear(p.Spawned)
    assert spawned == p.Spawned("0", 1, spawned.pid)
    assert daemon.hear(p.Exited) == p.Exited("0", 1, spawned.pid, 3, 0, False)


def test_an_end_by_a_signal_says_which(daemon: Daemon) -> None:
    daemon.say(order("kill -SEGV $$"))
    pid = daemon.hear(p.Spawned).pid
    assert daemon.hear(p.Exited) == p.Exited("0", 1, pid, -1, signal.SIGSEGV, False)


def test_what_cannot_be_executed_fails_and_leaves_no_trace(stage: Stage, daemon: Daemon) -> None:
    daemon.say(order("", argv=["/nonexistent"]))
    failed = daemon.hear(p.Failed)
    assert failed == p.Failed("0", 1, 2, "cannot run /nonexistent: no such file (ENOENT)")
    daemon.exit()
    hello = stage.daemon().hear(p.Hello)
    assert (hello.runs, hello.ends) == ([], [])


def test_an_empty_command_fails_like_any_other(daemon: Daemon) -> None:
    daemon.say(order("", argv=[]))
    assert daemon.hear(p.Failed).error.startswith("cannot run an empty command: ")
    daemon.say(order("", argv=[], stdout="nowhere"))
    assert daemon.hear(p.Failed).error.startswith("cannot start : there is no descriptor called nowhere")


def test_without_its_log_pipe_a_program_is_not_started(daemon: Daemon) -> None:
    daemon.say(order("exit", stdout="log:9:out"))
    assert daemon.hear(p.Failed).error == "cannot start /bin/sh: there is no descriptor called log:9:out (EBADF)"


def test_a_signal_reaches_the_whole_group(daemon: Daemon, out: int) -> None:
    daemon.say(order("sleep 600 & echo $!; wait", stdout="log:out"))
    pid, member = daemon.hear(p.Spawned).pid, pid_from(out)
    daemon.say(p.Signal("0", 1, signal.SIGTERM, "group"))
    end = daemon.hear(p.Exited)
    assert (end.pid, end.signal) == (pid, signal.SIGTERM)
    await_end(member)
    if end.leftover:  # the member may have died a moment later than its parent
        daemon.hear(p.Gone)


def test_a_child_that_stays_in_the_group_is_a_leftover(daemon: Daemon, out: int) -> None:
    daemon.say(order("sleep 600 & echo $!; exit 0", stdout="log:out"))
    member = pid_from(out)
    daemon.hear(p.Spawned)
    assert daemon.hear(p.Exited).leftover
    assert alive(member)
    daemon.say(p.Signal("0", 1, signal.SIGTERM, "group"))
    assert daemon.hear(p.Gone) == p.Gone("0", 1)
    assert not alive(member)


def test_a_grandchild_that_left_the_group_is_found_by_its_marker(daemon: Daemon, out: int) -> None:
    daemon.say(order("(setsid sh -c 'echo $$; exec sleep 600' &); exit 0", stdout="log:out"))
    stray = pid_from(out)
    daemon.hear(p.Spawned)
    assert daemon.hear(p.Exited).leftover
    daemon.say(p.Signal("0", 1, signal.SIGKILL, "group"), order("exit 0", key="after"))
    assert daemon.hear(p.Spawned).key == "after"
    daemon.hear(p.Exited)
    assert alive(stray)  # the group is not where it is
    daemon.say(p.Signal("0", 1, signal.SIGTERM, "strays"))
    assert daemon.hear(p.Gone) == p.Gone("0", 1)
    assert not alive(stray)


# Ends when its child is ready; the child leaves session, group and marker behind when it gets SIGTERM.
GETS_AWAY = """
import os, signal
def leave(*_):
    os.setsid()
    os.execve("/bin/sh", ["sh", "-c", "echo $$; exec sleep 600"], {})
read_end, write_end = os.pipe()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, leave)
    os.write(write_end, b"ready")
    while True:
        signal.pause()
os.read(read_end, 5)
"""

FORGETS = "exec setsid env -u PMX_RUN sh -c 'echo $$; exec sleep 600'"


def test_a_stray_without_the_marker_is_nobodys_leftover(stage: Stage, daemon: Daemon, out: int) -> None:
    daemon.say(order(f"({FORGETS} &); exec sleep 600", stdout="log:out"))
    stray = pid_from(out)
    daemon.hear(p.Spawned)
    daemon.say(p.Signal("0", 1, signal.SIGKILL, "all"))
    assert not daemon.hear(p.Exited).leftover
    assert alive(stray)
    daemon.say(p.Quit())
    daemon.exit()
    assert stage.end() == 0
    assert not alive(stray)  # but nothing survives the keeper


def test_a_leftover_that_gets_away_is_gone_too(daemon: Daemon, out: int) -> None:
    """Nothing is buried when a process merely leaves; a signal that reaches nobody must say so."""
    daemon.say(order("", argv=[sys.executable, "-I", "-S", "-c", GETS_AWAY], stdout="log:out"))
    daemon.hear(p.Spawned)
    assert daemon.hear(p.Exited).leftover
    daemon.say(p.Signal("0", 1, signal.SIGTERM, "group"))
    stray = pid_from(out)
    daemon.say(p.Signal("0", 1, signal.SIGTERM, "all"))
    assert daemon.hear(p.Gone) == p.Gone("0", 1)
    assert alive(stray)


def test_killing_all_reaches_group_and_strays(daemon: Daemon, out: int) -> None:
    daemon.say(
        order("sleep 600 & (setsid sh -c 'echo $$; exec sleep 600' &); trap '' TERM; wait; wait", stdout="log:out")
    )
    daemon.hear(p.Spawned)
    stray = pid_from(out)
    daemon.say(p.Signal("0", 1, signal.SIGKILL, "all"))
    if daemon.hear(p.Exited).leftover:  # its parent was of the group and still there, so it was no stray yet
        daemon.say(p.Signal("0", 1, signal.SIGKILL, "all"))
        daemon.hear(p.Gone)
    assert not alive(stray)


def test_a_program_whose_tree_is_left_alone_ends_alone(daemon: Daemon, out: int) -> None:
    daemon.say(order("sleep 600 & echo $!; wait", stdout="log:out", tree=False))
    pid, child = daemon.hear(p.Spawned).pid, pid_from(out)
    daemon.say(p.Signal("0", 1, signal.SIGTERM, "all"))
    assert daemon.hear(p.Exited) == p.Exited("0", 1, pid, -1, signal.SIGTERM, False)
    assert alive(child)
    daemon.say(p.Signal("0", 1, signal.SIGKILL, "all"), order("exit 0", key="after"))
    daemon.hear(p.Spawned)
    daemon.hear(p.Exited)
    assert alive(child)


def test_a_signal_right_behind_the_order_still_ends_the_run(daemon: Daemon) -> None:
    for number in range(20):
        key = str(number)
        daemon.say(order("exec sleep 600", key=key), p.Signal(key, 1, signal.SIGKILL, "all"))
        assert daemon.hear(p.Spawned).key == key
        assert daemon.hear(p.Exited).signal == signal.SIGKILL


def test_a_signal_to_a_run_that_is_over_is_nothing(daemon: Daemon) -> None:
    daemon.say(order("exit 0"))
    daemon.hear(p.Spawned)
    daemon.hear(p.Exited)
    daemon.say(p.Signal("0", 1, signal.SIGKILL, "all"), p.Signal("nobody", 7, signal.SIGKILL, "all"), order("exit 1"))
    daemon.hear(p.Spawned)
    assert daemon.hear(p.Exited).code == 1


def test_many_programs_are_all_told_of_in_order(stage: Stage, daemon: Daemon) -> None:
    keys = [str(number) for number in range(60)]
    daemon.say(*(order(f"exit {key}", key=key) for key in keys))
    told = daemon.hear_of(keys, p.Exited)
    for key in keys:
        spawned, exited = told[key]
        assert isinstance(spawned, p.Spawned)
        assert isinstance(exited, p.Exited)
        assert exited.code == int(key)
        assert exited.pid == spawned.pid
    assert children_of(stage.process.pid) == [daemon.pid]


def test_an_orphan_that_ends_is_buried(stage: Stage, daemon: Daemon, out: int) -> None:
    daemon.say(order("(sleep 600 & echo $!); exec sleep 600", stdout="log:out"))
    orphan = pid_from(out)
    pid = daemon.hear(p.Spawned).pid
    os.kill(orphan, signal.SIGKILL)
    await_end(orphan)
    daemon.say(order("exit 0", key="after"))
    daemon.hear_of(["after"], p.Exited)
    assert set(children_of(stage.process.pid)) == {daemon.pid, pid}

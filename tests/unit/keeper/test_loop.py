import os
import re
import signal
import socket
from typing import Any

import pytest

from pmx.keeper import protocol as p
from tests.unit.keeper.stage import Stage
from tests.unit.support import alive, await_end, descriptors


def sleeper(key: str = "0", run: int = 1, **more: Any) -> p.Spawn:
    return p.Spawn(key, run, ["/bin/sleep", "600"], {}, "/", "", "")._replace(**more)


def quick(key: str = "0", run: int = 1) -> p.Spawn:
    return sleeper(key, run, argv=["/bin/true"])


def test_the_first_word_says_what_the_keeper_holds(stage: Stage) -> None:
    hello = stage.daemon().hear(p.Hello)
    assert hello == p.Hello(p.VERSION, stage.process.pid, [], [], [])


def test_whoever_started_it_is_told_when_the_daemon_serves(stage: Stage) -> None:
    stage.ready()
    assert stage.told() == "\n"


def test_a_daemon_that_never_serves_ends_the_keeper_and_is_explained(stage: Stage) -> None:
    daemon = stage.daemon()
    daemon.say(sleeper())
    daemon.hear(p.Hello)
    pid = daemon.hear(p.Spawned).pid
    daemon.exit(4)
    assert stage.told() == "the daemon exited with code 4 before it was ready\n"
    assert stage.end() == 1
    assert not alive(pid)


def test_a_daemon_that_dies_is_started_again_and_told_everything(stage: Stage) -> None:
    daemon = stage.ready()
    os.close(daemon.pipe("log:0:out"))
    daemon.say(sleeper("0", 7))
    living = daemon.hear(p.Spawned)
    daemon.say(quick("1", 3))
    daemon.hear(p.Spawned)
    acknowledged = daemon.hear(p.Exited)
    daemon.say(quick("2", 4), p.Acknowledge("1", 3), p.Acknowledge("nobody", 1))
    daemon.hear(p.Spawned)
    kept = daemon.hear(p.Exited)
    assert acknowledged.key == "1"
    daemon.die()

    heir = stage.daemon()
    hello = heir.hear(p.Hello)
    assert [tuple(each) for each in hello.runs] == [("0", 7, living.pid)]
    assert [tuple(each) for each in hello.ends] == [("2", 4)]
    assert hello.descriptors == ["log:0:out"]
    assert heir.hear(p.Exited) == kept
    heir.say(p.Acknowledge("2", 4))
    os.close(heir.pipe("log:0:out"))  # by its answer the acknowledgement has been read
    heir.die()
    assert stage.daemon().hear(p.Hello).ends == []
    assert alive(living.pid)


def test_each_death_is_in_the_log_with_a_longer_wait(stage: Stage) -> None:
    for _ in range(3):
        stage.ready().die()
    stage.ready()
    waits = re.findall(r"was killed by SIGKILL after 0\.\d s; starting it again in (\d\.\d) s", stage.log())
    assert waits == ["0.1", "0.2", "0.4"]


def test_an_end_while_there_is_no_daemon_is_told_to_the_next(stage: Stage) -> None:
    daemon = stage.ready()
    daemon.say(sleeper())
    pid = daemon.hear(p.Spawned).pid
    daemon.die()
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    heir = stage.daemon()
    hello = heir.hear(p.Hello)
    if hello.runs:  # the heir was faster
        assert hello.ends == []
    assert heir.hear(p.Exited) == p.Exited("0", 1, pid, -1, signal.SIGKILL, False)


def test_a_log_pipe_outlives_the_daemon_with_what_is_in_it(stage: Stage) -> None:
    daemon = stage.ready()
    fd = daemon.pipe("log:x")
    os.write(fd, b"not read yet")
    os.close(fd)
    daemon.die()
    heir = stage.ready()
    fd = heir.pipe("log:x")
    assert os.read(fd, 100) == b"not read yet"
    os.close(fd)
    heir.say(p.Drop("log:x"), p.Drop("never there"))
    fd = heir.pipe("log:x")
    os.write(fd, b"new")
    assert os.read(fd, 100) == b"new"
    os.close(fd)


def test_garbage_is_hung_up_on_and_the_programs_go_on(stage: Stage) -> None:
    daemon = stage.ready()
    daemon.say(sleeper())
    pid = daemon.hear(p.Spawned).pid
    daemon.link.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert daemon.ended()
    daemon.exit(1)
    assert [tuple(each) for each in stage.daemon().hear(p.Hello).runs] == [("0", 1, pid)]
    assert "does not speak the protocol" in stage.log()


@pytest.mark.parametrize(
    "bad",
    [
        p.Signal("0", 1, "nine", "group"),  # type: ignore[arg-type]
        p.Acknowledge(["0"], 1),  # type: ignore[arg-type]
        p.Spawn("x", 1, 5, {}, "/", "", ""),  # type: ignore[arg-type]
        p.Drop({}),  # type: ignore[arg-type]
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_a_message_of_nonsense_takes_nothing_with_it(stage: Stage, bad: p.Message) -> None:
    """What comes in the same breath is obeyed all the same."""
    daemon = stage.ready()
    daemon.say(sleeper())
    daemon.hear(p.Spawned)
    daemon.say(bad, quick("1"))
    told = daemon.hear_of(["1"], p.Exited)
    assert [type(message) for message in told["1"]] == [p.Spawned, p.Exited]
    assert stage.process.poll() is None


def test_a_fault_over_one_end_does_not_cost_the_others_that_came_with_it(stage: Stage) -> None:
    """The first three end while the keeper starts the rest: it buries them in one go, the one of nonsense between."""
    daemon = stage.ready()
    rest = [quick(str(number)) for number in range(3, 23)]
    daemon.say(quick("1"), p.Spawn("x", 1, 5, {}, "/", "", ""), quick("2"), *rest)  # type: ignore[arg-type]
    told = daemon.hear_of(["1", "2", *(order.key for order in rest)], p.Exited)
    assert all([type(message) for message in its] == [p.Spawned, p.Exited] for its in told.values())


def test_an_order_to_end_is_passed_on(stage: Stage) -> None:
    daemon = stage.ready()
    stage.process.send_signal(signal.SIGTERM)
    assert daemon.hear(p.Stopping) == p.Stopping("SIGTERM")
    daemon.say(p.Quit())
    daemon.exit()
    assert stage.end() == 0
    assert "as it said it would" in stage.log()


def test_an_order_to_end_outlives_the_daemon_that_was_told(stage: Stage) -> None:
    daemon = stage.ready()
    stage.process.send_signal(signal.SIGTERM)
    daemon.hear(p.Stopping)
    daemon.die()
    heir = stage.daemon()
    heir.hear(p.Hello)
    assert heir.hear(p.Stopping) == p.Stopping("SIGTERM")


def test_an_order_to_end_while_there_is_no_daemon_ends_everything(stage: Stage) -> None:
    daemon = stage.ready()
    daemon.say(sleeper("0"), sleeper("1", argv=["/bin/sh", "-c", "trap '' TERM; setsid sleep 600 & wait"]))
    pids = [message.pid for told in daemon.hear_of("01", p.Spawned).values() for message in told]  # type: ignore[union-attr]
    daemon.link.shutdown(socket.SHUT_WR)  # as if it were dying
    assert daemon.ended()
    stage.process.send_signal(signal.SIGTERM)
    assert stage.end() == 0
    assert not any(map(alive, pids))
    assert "ended" in stage.log()


def test_a_hangup_is_ignored(stage: Stage) -> None:
    daemon = stage.ready()
    stage.process.send_signal(signal.SIGHUP)
    daemon.say(quick())
    daemon.hear_of("0", p.Exited)
    assert stage.process.poll() is None


def test_a_long_life_leaves_no_descriptors_behind(stage: Stage) -> None:
    daemon = stage.ready()
    before = descriptors(stage.process.pid)
    for number in range(5):
        daemon.say(quick(str(number)))
        daemon.hear_of([str(number)], p.Exited)
        daemon.say(sleeper(f"x{number}", argv=["/nonexistent"]))
        daemon.hear(p.Failed)
        os.close(daemon.pipe("log:x"))
        daemon.say(p.Drop("log:x"))
        daemon.die()
        daemon = stage.ready()
        for _ in range(number + 1):
            daemon.hear(p.Exited)
    assert len(descriptors(stage.process.pid)) == len(before)

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from pmx.keeper.protocol import Exited, Spawn
from pmx.keeper.runs import Run, Runs
from tests.unit.support import ROOT, await_end

pytestmark = pytest.mark.usefixtures("nothing_left")

NOBODY = 2**22 + 1  # above the largest pid_max: no process and no group can have it


def run(key: str = "0", number: int = 1, pid: int = NOBODY, reporter: socket.socket | None = None, **more: Any) -> Run:
    """A run that is executed, unless there is a `reporter`."""
    order = Spawn(key, number, ["x"], {}, "/", "", "")._replace(**more)
    return Run(order, pid, reporter)


def test_a_living_run_is_found_and_listed() -> None:
    runs = Runs()
    reporter, other = socket.socketpair()
    first, second = run("0", 1, NOBODY), run("1", 5, NOBODY + 1, reporter)
    runs.add(first)
    runs.add(second)
    assert runs.living() == [("0", 1, NOBODY), ("1", 5, 0)]  # the second is not executed yet
    assert runs.find("0", 1) is first
    assert runs.find("0", 2) is None
    assert (first.spawning, second.spawning) == (False, True)
    reporter.close()
    other.close()


@pytest.mark.parametrize(("status", "code", "number"), [(0, 0, 0), (3 << 8, 3, 0), (9, -1, 9), (0x80 | 11, -1, 11)])
def test_an_end_is_kept_until_it_is_acknowledged(status: int, code: int, number: int) -> None:
    runs = Runs()
    runs.add(run())
    end = runs.ended(NOBODY, status)
    assert end == Exited("0", 1, NOBODY, code, number, False)
    assert runs.living() == []
    assert runs.find("0", 1) is None
    assert runs.ends == {("0", 1): end}
    runs.forget("0", 1)
    runs.forget("0", 1)
    assert runs.ends == {}


def test_the_end_of_a_stranger_is_no_end() -> None:
    assert Runs().ended(NOBODY, 0) is None


def test_a_tree_that_outlives_its_main_process_is_swept_until_it_is_gone() -> None:
    runs = Runs()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, start_new_session=True) as member:
        runs.add(run(pid=member.pid))
        end = runs.ended(member.pid, 0)
        assert end is not None
        assert end.leftover
        assert runs.find("0", 1) is not None
        assert runs.gone() == []
    assert runs.gone() == [("0", 1)]
    assert runs.gone() == []
    assert runs.find("0", 1) is None
    # A daemon that asks only now must not wait for a Gone that has been said.
    assert runs.ends["0", 1].leftover is False


def test_what_is_gone_stays_gone_for_an_acknowledged_end() -> None:
    runs = Runs()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, start_new_session=True) as member:
        runs.add(run(pid=member.pid))
        runs.ended(member.pid, 0)
        runs.forget("0", 1)
    assert runs.gone() == [("0", 1)]
    assert runs.ends == {}


def test_the_tree_of_a_run_that_leaves_its_tree_alone_is_not_looked_at() -> None:
    runs = Runs()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, start_new_session=True) as member:
        runs.add(run(pid=member.pid, tree=False))
        end = runs.ended(member.pid, 0)
        assert end is not None
        assert not end.leftover
        assert runs.swept == {}


# A subreaper whose orphaned grandchild left the group, told apart by its marker only.
STRAYS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pmx.keeper import linux
from pmx.keeper.protocol import Spawn
from pmx.keeper.runs import Run, Runs
linux.become_subreaper()
hold = os.dup(0)  # what the strays wait on: it ends with the test
os.set_inheritable(hold, True)
def orphan(marker):
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    script = f"setsid sh -c 'echo $$ >&{write_end}; read x <&{hold}' & wait $!"
    env = {"PMX_RUN": marker, "PATH": os.environ["PATH"]}
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], env, setsid=True)
    os.close(write_end)
    stray = int(os.read(read_end, 100))
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return pid, stray
pid, stray = orphan("1.1@/h")
_, other = orphan("1.2@/h")
runs = Runs()
mine = Run(Spawn("1", 1, ["x"], {}, "/", "", "", marker="PMX_RUN=1.1@/h"), pid, None)
unmarked = Run(Spawn("2", 1, ["x"], {}, "/", "", ""), 2**22 + 1, None)
runs.add(mine)
print(runs.strays(mine) == [stray], runs.strays(unmarked), runs.ended(pid, 0).leftover, runs.gone())
runs.others = {stray}
print(runs.strays(mine))
runs.others = set()
os.kill(stray, 9); os.waitpid(stray, 0)
print(runs.gone())
os.kill(other, 9); os.waitpid(other, 0)
"""


def test_a_stray_is_known_by_its_marker_alone() -> None:
    read_end, write_end = os.pipe()
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", STRAYS, ROOT], stdin=read_end, capture_output=True, text=True
    )
    os.close(read_end)
    os.close(write_end)
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["True [] True []", "[]", "[('1', 1)]"]


def test_a_zombie_still_counts_as_a_member() -> None:
    # Which is why the loop buries all the dead before it asks.
    runs = Runs()
    pid = os.posix_spawn("/bin/true", ["true"], {}, setsid=True)
    await_end(pid)
    runs.add(run(pid=pid))
    assert runs.leftover(runs.by_pid[pid])
    os.waitpid(pid, 0)
    assert not runs.leftover(runs.by_pid[pid])
    assert signal.SIGCHLD  # nothing was reaped but by us

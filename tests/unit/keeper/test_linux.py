import os
import subprocess
import sys

import pytest

from pmx.keeper import linux
from tests.unit.support import ROOT, await_end, read_until

pytestmark = pytest.mark.usefixtures("nothing_left")

# A process of its own becomes the subreaper: the test's must not.
REAPER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pmx.keeper import linux
linux.become_subreaper()
linux.set_name("a-name-longer-than-15-bytes")
read_end, write_end = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(write_end, b"%d" % os.getpid())
        sys.stdin.read()  # until the test closes it
        os._exit(7)
    os._exit(0)
os.wait()
grandchild = int(os.read(read_end, 100))
me = os.getpid()
print(open("/proc/self/comm").read().strip(), linux.children() == [grandchild], linux.parent_of(grandchild) == me)
print(linux._children_by_scan(os.getpid()) == [grandchild], flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]), linux.children(), flush=True)
"""


def test_an_orphan_becomes_a_child_of_the_subreaper() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", REAPER, ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reaper:
        assert reaper.stdin and reaper.stdout
        assert reaper.stdout.readline().split() == [b"a-name-longer-t", b"True", b"True"]
        assert reaper.stdout.readline().split() == [b"True"]
        reaper.stdin.close()
        assert reaper.stdout.readline().split() == [b"7", b"[]"]
    assert reaper.returncode == 0


@pytest.fixture
def sleeper() -> "subprocess.Popen[bytes]":
    """A child in a group of its own, which waits until its input ends."""
    return subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PMX_RUN": "1.2@/h"}, start_new_session=True
    )


def test_what_is_known_of_a_process_and_what_when_it_is_gone(sleeper: "subprocess.Popen[bytes]") -> None:
    pid = sleeper.pid
    with sleeper:
        assert sleeper.stdin and sleeper.stdout
        sleeper.stdin.write(b"it runs\n")
        sleeper.stdin.flush()
        read_until(sleeper.stdout.fileno())
        assert linux.parent_of(pid) == os.getpid()
        assert linux.group_exists(pid)
        assert linux.environ_has(pid, b"PMX_RUN=1.2@/h")
        for other in (b"PMX_RUN=1.2@/", b"PMX_RUN", b"1.2@/h", b"XPMX_RUN=1.2@/h"):
            assert not linux.environ_has(pid, other)
        sleeper.stdin.close()
        await_end(pid)
        assert linux.group_exists(pid)  # a zombie counts
        assert not linux.environ_has(pid, b"PMX_RUN=1.2@/h")
    assert not linux.group_exists(pid)
    assert not linux.environ_has(pid, b"PMX_RUN=1.2@/h")
    assert linux.parent_of(pid) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_a_group_of_somebody_else_exists(sleeper: "subprocess.Popen[bytes]") -> None:
    with sleeper:
        os.setresuid(65534, 65534, 0)
        try:
            with pytest.raises(PermissionError):
                os.killpg(sleeper.pid, 0)
            assert linux.group_exists(sleeper.pid)
        finally:
            os.setresuid(0, 0, 0)

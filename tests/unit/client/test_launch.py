import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmx import errors
from pmx.client import launch
from pmx.client.session import Session
from pmx.paths import Home, create
from tests.unit.support import ROOT, await_end, processes_of

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),  # pytest-xdist has a thread
]


def kill(home: Home) -> None:
    """As `pmx kill`: until the keeper has ended."""
    with Session(home, lambda: True) as asking:
        keeper = asking.ask("kill")["keeper"]
    await_end(keeper)


@pytest.fixture
def home(short_home: Home) -> Iterator[Home]:
    yield short_home
    if launch.is_running(short_home):
        kill(short_home)


def test_nothing_runs_in_a_home_that_is_not_there(home: Home) -> None:
    assert not launch.is_running(home)
    assert not os.path.exists(home.root)


def test_the_lock_tells_whether_a_keeper_runs(home: Home) -> None:
    create(home)
    assert not launch.is_running(home)
    fd = os.open(home.root, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert launch.is_running(home)
    os.close(fd)
    fd = os.open(home.root, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)  # another client that looks at the same moment
    assert not launch.is_running(home)
    os.close(fd)


def test_a_daemon_is_started_once_and_serves(home: Home) -> None:
    launch.ensure(home)
    assert launch.is_running(home)
    with Session(home, lambda: False) as asking:
        first = asking.ask("ping")
    launch.ensure(home)
    with Session(home, lambda: False) as asking:
        assert asking.ask("ping") == first
    kill(home)
    assert not launch.is_running(home)
    launch.ensure(home)
    with Session(home, lambda: False) as asking:
        assert asking.ask("ping")["keeper"] != first["keeper"]


def test_what_was_begun_is_waited_for(home: Home) -> None:
    launch.begin(home)
    launch.begin(home)
    launch.ensure(home)
    with Session(home, lambda: False) as asking:
        assert asking.ask("ls") == []
    launch.ensure(home)


def test_little_of_the_environment_is_handed_down(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("LC_TIME", "C")
    launch.ensure(home)
    with Session(home, lambda: False) as asking:
        answer = asking.ask("ping")
    for pid in (answer["pid"], answer["keeper"]):
        env = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"hunter2" not in env
        assert b"LC_TIME=C" in env
        assert b"PATH=" in env


ENSURE = """
import sys
from pmx.client import launch
from pmx.client.session import Session
from pmx.paths import Home
home = Home(sys.argv[1])
sys.stdin.read()  # all begin together, when the test closes it
launch.ensure(home)
with Session(home, lambda: launch.is_running(home)) as asking:
    print(asking.ask("ping")["keeper"])
"""


def test_racers_get_one_keeper(home: Home) -> None:
    read_end, write_end = os.pipe()
    racers = [
        subprocess.Popen([sys.executable, "-c", ENSURE, home.root], cwd=ROOT, stdin=read_end, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    os.close(read_end)
    os.close(write_end)
    keepers = {racer.communicate()[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(keepers) == 1
    assert int(keepers.pop()) in processes_of(home.root)


def test_a_home_that_lets_others_in_is_refused(home: Home) -> None:
    os.mkdir(home.root, 0o755)
    with pytest.raises(errors.Refused, match="lets others in"):
        launch.ensure(home)
    assert processes_of(home.root) == {}


def test_a_home_that_cannot_be_made_is_explained(short_dir: str) -> None:
    Path(short_dir, "file").touch()
    home = Home(f"{short_dir}/file/h")
    with pytest.raises(errors.PmxError, match="file/h"):
        launch.ensure(home)


def test_why_the_daemon_did_not_come_up_is_told(home: Home) -> None:
    create(home)
    os.mkdir(home.keeper_log)
    with pytest.raises(errors.DaemonProblem, match=r"cannot write .*/keeper\.log: Is a directory") as caught:
        launch.ensure(home)
    assert home.daemon_log in caught.value.hint
    for pid in processes_of(home.root):  # it tells before it ends
        await_end(pid)
    assert not launch.is_running(home)


def test_without_its_python_there_is_one_clean_error(home: Home) -> None:
    """And not a second command line that goes on in the forked child."""
    script = f"""
import sys
from pmx.client import launch
from pmx.paths import Home
sys.executable = "/nonexistent/python"
try:
    launch.ensure(Home({home.root!r}))
except Exception as error:
    print(type(error).__name__, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("DaemonProblem\n", 0)


def test_a_path_too_long_for_a_socket_works_and_leaves_nothing(short_dir: str) -> None:
    home = Home(f"{short_dir}/{'x' * 110}")
    assert home.run.startswith("/tmp/pmx-")
    launch.ensure(home)
    with Session(home, lambda: False) as asking:
        assert asking.ask("ping")["home"] == home.root
    assert sorted(os.listdir(home.run)) == ["control.sock", "events.sock"]
    kill(home)
    assert not os.path.exists(home.run)
    assert sorted(os.listdir(home.root)) == ["daemon.log", "keeper.log", "logs"]

import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmx.keeper import inheritance, spawn
from pmx.keeper.fdstore import FdStore
from pmx.keeper.inheritance import Inheritance
from pmx.keeper.poller import Poller
from pmx.keeper.protocol import Spawn
from pmx.keeper.slots import Slots
from tests.unit.support import await_end, inheritable, read_until

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),  # pytest-xdist has a thread
]

NOFILE = (300, 400)
PYTHON = [sys.executable, "-I", "-S", "-c"]

# Tells all it knows of itself in one line of JSON.
SELF = """
import json, os, resource, sys
mask = os.umask(0)
status = {line.split(":")[0]: line.split()[1] for line in open("/proc/self/status") if line.startswith("Sig")}
print(json.dumps({
    "pid": os.getpid(), "session": os.getsid(0), "group": os.getpgrp(), "cwd": os.getcwd(), "umask": mask,
    "env": dict(os.environ), "status": status, "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "stdin": os.readlink("/proc/self/fd/0"), "stdin_eof": sys.stdin.read() == "",
}), flush=True)
"""


def order(argv: list[str], **more: Any) -> Spawn:
    return Spawn("0", 1, argv, dict(os.environ), "/", "log:out", "log:error")._replace(**more)


@pytest.fixture
def store() -> Iterator[FdStore]:
    made = FdStore()
    made.open("log:out")
    made.open("log:error")
    yield made
    made.close()


def inherits(what: Spawn, store: FdStore) -> Inheritance:
    """The pipes that the order names, and nothing else."""
    return inheritance.prepare(what, store, Slots(Poller(), lambda _: None))


Run = Callable[[Spawn], tuple[int, bytes]]


@pytest.fixture
def run(store: FdStore) -> Run:
    """Fork, wait for the end, and return the wait status and what was reported."""

    def fork_and_wait(what: Spawn) -> tuple[int, bytes]:
        pid, reporter = spawn.fork(what, inherits(what, store), NOFILE)
        with reporter:
            report = read_until(reporter.fileno(), b"\0never")
        return os.waitpid(pid, 0)[1], report

    return fork_and_wait


@pytest.fixture
def told(run: Run, store: FdStore) -> Callable[[Spawn], dict[str, Any]]:
    """What a program says of itself."""

    def tell(what: Spawn) -> dict[str, Any]:
        assert run(what) == (0, b"")
        data: dict[str, Any] = json.loads(read_until(store.get(what.stdout)))
        return data

    return tell


Told = Callable[[Spawn], dict[str, Any]]


def test_it_leads_a_session_and_a_group_of_its_own(told: Told) -> None:
    me = told(order([*PYTHON, SELF]))
    assert me["pid"] == me["session"] == me["group"]


def test_it_gets_the_directory_the_environment_and_the_umask_of_the_order(told: Told, tmp_path: Path) -> None:
    env = {"A": "b", "UMLAUT": "ä", "PATH": "/bin", "LC_CTYPE": "C.UTF-8"}
    me = told(order([*PYTHON, SELF], cwd=str(tmp_path), env=env, umask=0o027))
    assert me["cwd"] == str(tmp_path)
    assert me["env"] == env
    assert me["umask"] == 0o027


def test_what_the_order_leaves_open_stays_as_it_was(told: Told) -> None:
    umask = os.umask(0)
    os.umask(umask)
    me = told(order([*PYTHON, SELF]))
    assert me["umask"] == umask
    assert me["ids"] == [list(os.getresuid()), list(os.getresgid()), os.getgroups()]


def test_the_limit_of_open_files_is_the_one_before_the_keeper_raised_it(told: Told) -> None:
    assert told(order([*PYTHON, SELF]))["nofile"] == list(NOFILE)


def test_limits_of_the_order_win(told: Told) -> None:
    me = told(order([*PYTHON, SELF], limits=[("core", 0, 0), ("nofile", 64, 128)]))
    assert me["core"] == [0, 0]
    assert me["nofile"] == [64, 128]


def test_its_input_is_empty_and_nothing_else_is_inherited(told: Told) -> None:
    inherited = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]  # close-on-exec, as all that Python opens
    me = told(order([*PYTHON, SELF]))
    for fd in inherited:
        os.close(fd)
    assert set(me["fds"]) == {0, 1, 2} | inheritable()
    assert me["stdin"] == "/dev/null"
    assert me["stdin_eof"]


def test_its_output_goes_into_the_pipes_of_the_store(run: Run, store: FdStore) -> None:
    assert run(order(["/bin/sh", "-c", "echo out; echo error >&2"])) == (0, b"")
    assert read_until(store.get("log:out")) == b"out\n"
    assert read_until(store.get("log:error")) == b"error\n"


def test_a_program_that_makes_its_output_non_blocking_does_so_for_itself(run: Run, store: FdStore) -> None:
    assert run(order([*PYTHON, "import os; os.set_blocking(1, False); os.write(1, b'x\\n')"])) == (0, b"")
    assert os.get_blocking(store.get("log:out"))
    assert read_until(store.get("log:out")) == b"x\n"


def test_no_name_means_no_output(run: Run, store: FdStore) -> None:
    script = "import os; print('lost'); os.write(2, os.readlink('/proc/self/fd/1').encode() + b'\\n')"
    assert run(order([*PYTHON, script], stdout="")) == (0, b"")
    assert read_until(store.get("log:error")) == b"/dev/null\n"


def test_a_pipe_that_is_not_there_is_said_before_there_is_a_process(store: FdStore) -> None:
    with pytest.raises(OSError, match="nowhere"):
        inherits(order(["/bin/true"], stdout="nowhere"), store)


def test_signals_are_as_in_a_new_process(told: Told) -> None:
    """Whatever the keeper blocks, handles, ignores or was started with: SIGPIPE kills, and the mask is empty."""
    changed = {
        number: signal.signal(number, disposition)
        for number, disposition in (
            (signal.SIGCHLD, lambda *_: None),
            (signal.SIGTERM, lambda *_: None),
            (signal.SIGHUP, signal.SIG_IGN),
            (signal.SIGQUIT, signal.SIG_IGN),  # a script's "pmx start app &" has it so
            (signal.SIGUSR1, signal.SIG_IGN),
        )
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGCHLD})
    try:
        status = told(order([sys.executable, "-I", "-S", "-c", SELF]))["status"]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, disposition in changed.items():
            signal.signal(number, disposition)
    libc = 0b11 << 31
    pythons_own = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & ~libc == pythons_own
    assert int(status["SigCgt"], 16) & ~libc == 1 << signal.SIGINT - 1


def test_sigpipe_kills_a_program_that_is_not_python(run: Run) -> None:
    status, _ = run(order(["/bin/sh", "-c", "kill -PIPE $$; exit 1"]))
    assert os.WTERMSIG(status) == signal.SIGPIPE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_as_root_it_becomes_somebody_else(run: Run, store: FdStore) -> None:
    script = "id -u; id -g; id -G; echo x >/dev/stdout"
    assert run(order(["/bin/sh", "-c", script], uid=65534, gid=1234, groups=[1234, 4321])) == (0, b"")
    lines = read_until(store.get("log:out"), b"x\n").split(b"\n")
    assert lines[:3] == [b"65534", b"1234", b"1234 4321"]
    assert os.fstat(store.get("log:out")).st_uid == 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_the_directory_is_entered_as_that_user(run: Run, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(0o700)
    what = order(["/bin/true"], cwd=str(private), uid=65534, gid=65534, groups=[])
    number, sentence = spawn.explain(what, run(what)[1])
    assert os.strerror(number) == "Permission denied"
    assert sentence == f"cannot enter the working directory {private} of /bin/true: Permission denied (EACCES)"


# ── why it could not be executed ─────────────────────────────────────────────────────────────────────────────────


def executable(path: Path, text: bytes, mode: int = 0o755) -> str:
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


def explained(run: Run, what: Spawn) -> str:
    status, report = run(what)
    assert os.WEXITSTATUS(status) == 127
    _, sentence = spawn.explain(what, report)
    return sentence.replace(what.argv[0], "PROGRAM")


def test_a_missing_file(run: Run, tmp_path: Path) -> None:
    assert explained(run, order([f"{tmp_path}/none"])) == "cannot run PROGRAM: no such file (ENOENT)"


def test_a_missing_interpreter(run: Run, tmp_path: Path) -> None:
    script = executable(tmp_path / "s", b"#!/usr/bin/nopython -u\nx\n")
    why = "cannot run PROGRAM: its interpreter /usr/bin/nopython does not exist (ENOENT)"
    assert explained(run, order([script])) == why


def test_a_script_with_windows_line_ends(run: Run, tmp_path: Path) -> None:
    script = executable(tmp_path / "s", b"#!/bin/sh\r\necho\r\n")
    why = "cannot run PROGRAM: its interpreter /bin/sh\\r does not exist (ENOENT)"
    assert explained(run, order([script])) == why


def test_a_file_without_permission(run: Run, tmp_path: Path) -> None:
    script = executable(tmp_path / "s", b"#!/bin/sh\n", 0o644)
    assert explained(run, order([script])) == "cannot run PROGRAM: no permission to execute it (EACCES)"


@pytest.mark.parametrize("text", [b"echo no shebang\n", b"\x7fELF\xff\xff broken", b""])
def test_a_file_of_no_known_format(run: Run, tmp_path: Path, text: bytes) -> None:
    why = "cannot run PROGRAM: it is neither a binary for this machine nor a script with a #! line (ENOEXEC)"
    assert explained(run, order([executable(tmp_path / "s", text)])) == why


def test_a_missing_directory(run: Run) -> None:
    why = "cannot enter the working directory /nonexistent of /bin/true: No such file or directory (ENOENT)"
    what = order(["/bin/true"], cwd="/nonexistent")
    assert spawn.explain(what, run(what)[1])[1] == why


def test_an_environment_that_is_too_large(run: Run) -> None:
    what = order(["/bin/true"], env={"A": "x" * 200_000})
    assert explained(run, what) == "cannot run PROGRAM: Argument list too long (E2BIG)"


def test_a_limit_that_may_not_be_set(run: Run) -> None:
    why = "cannot set the resource limits of PROGRAM: "
    assert explained(run, order(["/bin/true"], limits=[("core", 2, 1)])).startswith(why)
    assert "RLIMIT_BOGUS" in explained(run, order(["/bin/true"], limits=[("bogus", 1, 1)]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may be anybody")
def test_another_user_that_may_not_be_taken(run: Run) -> None:
    assert explained(run, order(["/bin/true"], uid=0)).startswith("cannot run PROGRAM as uid 0, gid -1: ")


def test_an_order_without_a_program_is_a_failure_and_no_second_keeper(run: Run) -> None:
    what = order([])
    _, report = run(what)
    assert spawn.explain(what, report)[1].startswith("cannot run")


@pytest.mark.parametrize("report", [b"", b"exec", b"exec\0abc\0", b"\xff\0\xff\0\xff", b"exec\x0099999\0what"])
def test_any_report_is_explained(report: bytes) -> None:
    number, sentence = spawn.explain(order(["/bin/true"]), report)
    assert number >= 0
    assert sentence.startswith("cannot run /bin/true: ")


def test_exec_is_decided_when_the_report_ends(store: FdStore) -> None:
    what = order(["/bin/sh", "-c", "read x < /dev/stdout"])
    pid, reporter = spawn.fork(what, inherits(what, store), NOFILE)
    with reporter:
        assert read_until(reporter.fileno()) == b""  # the program runs, and does not hold the report
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_without_processes_to_be_had_nothing_leaks(store: FdStore) -> None:
    if os.geteuid() == 0:
        pytest.skip("no limit of processes holds for root")
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
    try:
        with pytest.raises(BlockingIOError):
            spawn.fork(order(["/bin/true"]), inherits(order(["/bin/true"]), store), NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)


def test_a_pipe_has_a_name_and_a_kind(store: FdStore) -> None:
    assert stat.S_ISFIFO(os.fstat(store.get("log:out")).st_mode)

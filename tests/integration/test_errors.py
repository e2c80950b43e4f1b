"""Bad input: one sentence that says what, why and what to do; a documented exit code; nothing half-done."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness import APPS, Pmx, alive


def refused(pmx: Pmx, status: int, *args: str) -> str:
    """The message of a command that must fail; nothing may be on stdout, nor in the list."""
    done = pmx(*args, status=status)
    assert done.stdout == ""
    assert done.stderr.startswith("pmx: cannot ")
    assert "pmx/cli" not in done.stderr  # no traceback of ours
    return done.stderr


def test_a_missing_file(pmx: Pmx) -> None:
    (pmx.work / "server.py").touch()
    message = refused(pmx, 5, "start", "sever.py")
    assert "server.py" in message  # did you mean
    assert pmx.jlist() == []


def test_a_file_that_may_not_be_executed(pmx: Pmx) -> None:
    (pmx.work / "tool").write_bytes(b"\x7fELF\x02\x01\x01\0 nonsense")
    assert "chmod +x" in refused(pmx, 5, "start", "./tool")
    assert pmx.jlist() == []


def test_a_binary_for_another_machine_is_told_with_its_errno(pmx: Pmx) -> None:
    (pmx.work / "tool").write_bytes(b"\x7fELF\x02\x01\x01\0 nonsense")
    (pmx.work / "tool").chmod(0o755)
    assert "ENOEXEC" in refused(pmx, 5, "start", "./tool")
    assert pmx.jlist() == []
    assert not pmx.log("tool-out-0.log")


def test_a_missing_interpreter(pmx: Pmx) -> None:
    (pmx.work / "tool").write_text("#!/no/such/interpreter\n")
    (pmx.work / "tool").chmod(0o755)
    assert "/no/such/interpreter" in refused(pmx, 5, "start", "./tool")
    assert "no-such-thing" in refused(pmx, 5, "start", str(APPS / "ready.py"), "--interpreter", "no-such-thing")
    assert pmx.jlist() == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("--kill-timeout", "soon"), ("-i", "many"), ("--min-uptime", "-3"), ("--env", "NOVAL"), ("--stop-signal", "HUPP")],
)
def test_bad_values(pmx: Pmx, option: str, value: str) -> None:
    assert value in refused(pmx, 2, "start", str(APPS / "ready.py"), option, value)


def test_an_unknown_option_and_an_unknown_command(pmx: Pmx) -> None:
    done = pmx("start", "--instance", "3", "x.py", status=2)
    assert "--instances" in done.stderr
    assert "did you mean pmx restart?" in pmx("restrt", "x", status=2).stderr


def test_bad_names(pmx: Pmx) -> None:
    for name in ("", "all", "a/b", "-x", "a\nb"):
        refused(pmx, 2, "start", str(APPS / "ready.py"), f"--name={name}")
    assert pmx.jlist() == []


@pytest.mark.parametrize("verb", ["stop", "restart", "delete", "describe", "logs"])
def test_a_name_that_does_not_exist(pmx: Pmx, verb: str) -> None:
    pmx("start", "sleep", "-n", "web", "--", "1000")
    message = refused(pmx, 3, verb, "wbe")
    assert "web" in message


def test_a_second_program_of_the_same_name(pmx: Pmx) -> None:
    pmx("start", "sleep", "-n", "web", "--", "1000")
    before = pmx.one("web")["pid"]
    message = refused(pmx, 4, "start", str(APPS / "ready.py"), "-n", "web")
    assert "pmx restart web" in message
    assert pmx.one("web")["pid"] == before


def test_a_program_that_dies_at_once_is_told_with_its_last_words(pmx: Pmx) -> None:
    (pmx.work / "bad.py").write_text("import nothing_of_that_name\n")
    message = refused(pmx, 8, "start", "bad.py")
    assert "exited with code 1" in message
    assert "nothing_of_that_name" in message
    assert pmx.one("bad")["pm2_env"]["restart_time"] >= 0  # it is kept: it may come up at the next try


def test_a_home_that_lets_others_in(pmx: Pmx) -> None:
    pmx.path.mkdir(mode=0o755)
    os.chmod(pmx.path, 0o755)
    message = refused(pmx, 6, "ls")
    assert "0755" in message
    assert list(pmx.path.iterdir()) == []
    pmx.path.rmdir()


def test_a_home_that_is_not_ours(pmx: Pmx) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a home of somebody else")
    pmx.path.mkdir(mode=0o700)
    os.chown(pmx.path, 65534, 65534)
    assert "65534" in refused(pmx, 6, "ls")
    pmx.path.rmdir()


def test_a_foreign_user_is_refused_at_the_socket(pmx: Pmx) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    pmx("ping")
    os.chmod(pmx.root, 0o711)
    os.chmod(pmx.path, 0o711)  # open the door, so that the second lock is tried
    os.chmod(pmx.home.control, 0o777)
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
os.setgid(65534); os.setuid(65534)
from pmx.client.zmtp import Socket
from pmx.wire.codec import encode_request, decode_answer
from pmx.wire.messages import Request
s = Socket({pmx.home.control!r}, "DEALER", 10)
s.send(encode_request(Request("1", "kill", {{}})))
print(decode_answer(s.receive(10)[-1]))
"""
    python = os.path.realpath("/usr/bin/python3")
    said = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=60)
    os.chmod(pmx.path, 0o700)
    assert "refused" in said.stdout, said.stderr
    assert "65534" in pmx.log("daemon.log")
    pmx("ping")


def test_a_log_that_cannot_be_written(pmx: Pmx) -> None:
    (pmx.work / "file").touch()
    message = refused(pmx, 5, "start", "sleep", "--output", "file/out.log", "--", "1000")
    assert "file/out.log" in message
    assert pmx.jlist() == []


def test_no_daemon_can_be_started_where_nothing_can_be_written(pmx: Pmx) -> None:
    done = pmx("ls", status=6 if os.geteuid() else 10, env={**pmx.env, "PMX_HOME": "/proc/nowhere/home"})
    assert done.stderr.startswith("pmx: cannot create /proc/nowhere")


def test_a_full_disk(pmx: Pmx) -> None:
    """A small tmpfs as home, filled to the last byte: pmx says so, and goes on when there is room again."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    pmx.path.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k,mode=0700", "pmx", str(pmx.path)], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        pmx("start", str(APPS / "ready.py"))
        pid = pmx.one("ready")["pid"]
        filler = pmx.path / "logs" / "filler"
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 1024)
        message = refused(pmx, 10, "start", "sleep", "-n", "other", "--output", str(pmx.path / "logs/new/x"), "--", "9")
        assert "No space left" in message
        assert pmx.one("ready")["pid"] == pid
        assert alive(pid)
        filler.unlink()
        pmx("start", "sleep", "-n", "third", "--", "1000")
        pmx("kill")
    finally:
        subprocess.run(["umount", "-l", str(pmx.path)], check=True)
        pmx.path.rmdir()

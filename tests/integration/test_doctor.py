"""pmx doctor on this machine, and on the same one with a mechanism broken on purpose: the right sentence each time."""

import fcntl
import json
import os
import platform
import pty
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import termios
from collections.abc import Sequence
from typing import Any

import pytest

from pmx.doctor.finding import GUARANTEES
from tests.harness import ROOT, Pmx

DENYING = str(ROOT / "tests" / "unit" / "doctor" / "denying.py")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set this stage")
x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="denying.py knows the numbers of x86-64 alone")

Found = dict[str, dict[str, str]]


def examine(pmx: Pmx, *before: str, python: str = sys.executable, env: dict[str, str] | None = None) -> Found:
    """What `pmx doctor --json` says, by check, when it is run by the command `before`."""
    command = [*before, python, "-m", "pmx", "doctor", "--json"]
    done = subprocess.run(command, env={**pmx.env, **(env or {})}, cwd=ROOT, capture_output=True, text=True, timeout=60)
    records: list[dict[str, str]] = json.loads(done.stdout or "[]")
    missing = [each["check"] for each in records if each["state"] == "missing"]
    assert done.returncode == (1 if missing else 0), done.stderr
    if missing:
        assert done.stderr.startswith(f"pmx: cannot give every guarantee on this machine: {', '.join(missing)}\n")
    else:
        assert done.stderr == ""
    assert {each["check"]: each["guarantee"] for each in records} == GUARANTEES
    assert all(each["why"] and each["change"] for each in records if each["state"] != "ok")
    return {each["check"]: each for each in records}


def denied(pmx: Pmx, *rules: str) -> Found:
    return examine(pmx, sys.executable, DENYING, *rules, "--")


def states(found: Found, state: str) -> set[str]:
    return {check for check, each in found.items() if each["state"] == state}


# ── nothing is broken ───────────────────────────────────────────────────────────────────────────────────────────


@root_only
def test_root_has_every_guarantee(pmx: Pmx) -> None:
    found = examine(pmx)
    assert states(found, "missing") == set()
    assert states(found, "restricted") <= {"memory", "processes", "clock", "watch", "ipv6"}  # of the machine
    assert found["users"]["why"] == ""


def test_no_daemon_is_needed_or_started_and_no_home_made(pmx: Pmx) -> None:
    assert "none runs" in examine(pmx)["daemon"]["why"]
    assert os.listdir(pmx.root) == ["work"]
    pmx("ping")
    before = {entry.name for entry in pmx.path.iterdir()}
    assert "one runs" in examine(pmx)["daemon"]["why"]
    assert {entry.name for entry in pmx.path.iterdir()} == before


def test_without_node_it_is_not_tried(pmx: Pmx) -> None:
    found = examine(pmx, env={"PATH": "/nowhere"})
    assert (found["node"]["state"], found["node"]["why"]) == ("ok", "not tried: no node here")


@pytest.mark.node
def test_a_node_that_does_not_start_is_told(pmx: Pmx) -> None:
    (pmx.work / "node").write_text("#!/bin/sh\nexit 3\n")
    (pmx.work / "node").chmod(0o755)
    assert examine(pmx)["node"] == {**examine(pmx)["node"], "state": "ok", "why": ""}
    found = examine(pmx, env={"PATH": str(pmx.work)})
    assert found["node"]["state"] == "missing"
    assert f"{pmx.work}/node said b''" in found["node"]["why"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_doctor_that_is_ended_clears_up(pmx: Pmx, number: int) -> None:
    here = pmx.work / "here"
    os.mkfifo(here)
    (pmx.work / "node").write_text(f"#!/bin/sh\necho here > {here}\nexec /bin/sleep 1000\n")
    (pmx.work / "node").chmod(0o755)
    with subprocess.Popen(pmx.argv("doctor"), env={**pmx.env, "PATH": str(pmx.work)}, cwd=ROOT) as doctor:
        assert here.read_text() == "here\n"
        doctor.send_signal(number)
    assert doctor.returncode == 130
    assert pmx.processes() == {}
    assert os.listdir(pmx.root) == ["work"]


# ── other people ────────────────────────────────────────────────────────────────────────────────────────────────

_AS_USER = """
import os, sys
os.setgroups([])
os.setgid(1000)
os.setuid(1000)
os.execv(sys.argv[1], sys.argv[1:])
"""


def as_user(pmx: Pmx, python: str = "/usr/bin/python3") -> tuple[list[str], dict[str, str]]:
    """The command and the environment for a user without any capability; skips where they would not get far."""
    environment = {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}", "PMX_HOME": str(pmx.work / "home")}
    pmx.root.chmod(0o755)
    os.chown(pmx.work, 1000, 1000)
    before = [sys.executable, "-I", "-S", "-c", _AS_USER]
    probe = [*before, python, "-c", "import pmx.cli.options"]
    if subprocess.run(probe, env={**pmx.env, **environment}, capture_output=True).returncode:
        pytest.skip(f"uid 1000 cannot import pmx and typer with {python}")
    return before, environment


@root_only
def test_a_user_without_capabilities_has_to_promise_no_new_privs(pmx: Pmx) -> None:
    before, environment = as_user(pmx)
    found = examine(pmx, *before, python="/usr/bin/python3", env=environment)
    assert states(found, "missing") == set()
    assert found["sharing"]["state"] == found["crash"]["state"] == found["steering"]["state"] == "ok"
    assert found["elevation"]["state"] == "restricted"
    assert "setuid programs such as sudo will not elevate inside shared programs" in found["elevation"]["why"]
    assert "--no-share" in found["elevation"]["change"]
    assert found["users"]["why"] == "not tried: only root may start programs as another user"
    assert ("ip_unprivileged_port_start" in found["ports"]["change"]) == (found["ports"]["state"] == "restricted")


@root_only
def test_an_interpreter_that_may_not_be_read_cannot_be_looked_at(pmx: Pmx) -> None:
    """The kernel lets nobody but root look at the process of such a file, as with a security module in the way."""
    closed = str(pmx.work / "python3")
    shutil.copy(os.path.realpath("/usr/bin/python3"), closed)
    before, environment = as_user(pmx, closed)
    os.chmod(closed, 0o711)
    found = examine(pmx, *before, python=closed, env=environment)
    assert found["sharing"]["state"] == "missing"
    assert "the descriptors of our own child cannot be read (EACCES)" in found["sharing"]["why"]
    assert "whether everybody may read the interpreter's file" in found["sharing"]["change"]
    assert "not tried: nothing is shared" in found["elevation"]["why"]


def test_in_a_user_namespace(pmx: Pmx) -> None:
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    found = examine(pmx, "unshare", "-Ur")
    assert states(found, "missing") == set()
    assert found["sharing"]["state"] == found["elevation"]["state"] == "ok"
    assert found["users"]["why"].startswith("not tried: no process here may become uid 65534")


@root_only
def test_as_in_a_container_without_cap_sys_ptrace(pmx: Pmx) -> None:
    found = examine(pmx, "setpriv", "--bounding-set=-sys_ptrace,-sys_admin", "--inh-caps=-all")
    assert states(found, "missing") == {"users"}
    assert "another user cannot be read without CAP_SYS_PTRACE (EACCES)" in found["users"]["why"]
    assert "--cap-add SYS_PTRACE" in found["users"]["change"]
    assert found["elevation"]["state"] == "restricted"


# ── one thing is broken ─────────────────────────────────────────────────────────────────────────────────────────


@x86_64
@pytest.mark.parametrize(
    ("rule", "why", "change"),
    [
        ("seccomp arg1&8 EACCES", "NEW_LISTENER is refused (EACCES)", "seccomp profile of the container"),
        ("seccomp arg1&8 EINVAL", "no seccomp user notification (EINVAL)", "use Linux 5.9"),
        ("ioctl arg1=0xc0502100 EPERM", "nothing is told of bind(2) (EPERM)", "ioctl(2) on the descriptor"),
        ("getxattr EPERM", "system.sockprotoname) (EPERM)", "allow getxattr(2)"),
        ("pread64 arg3>>32 EACCES", "the memory of our own child cannot be read (EACCES)", "security module"),
        ("ioctl arg1=0x40182103 EPERM", "cannot be put into another process (EPERM)", "SECCOMP_IOCTL_NOTIF_ADDFD"),
        ("ioctl arg1=0x40182103 EINVAL", "cannot be put into another process (EINVAL)", "use Linux 5.9"),
        ("ioctl arg1=0xc0182101 EPERM", "the answer to bind(2) does not arrive (EPERM)", "SECCOMP_IOCTL_NOTIF_SEND"),
    ],
)
def test_the_part_of_sharing_that_fails_is_named(pmx: Pmx, rule: str, why: str, change: str) -> None:
    found = denied(pmx, rule)
    assert states(found, "missing") - {"users"} == {"sharing"}
    assert why in found["sharing"]["why"]
    assert change in found["sharing"]["change"]
    left = "until then only servers that take LISTEN_FDS (--listen) or set SO_REUSEPORT themselves share a port"
    assert found["sharing"]["change"].endswith(left)
    assert found["declared"]["state"] == "ok"
    assert (found["crash"]["state"], found["crash"]["why"]) == (
        "restricted",
        "only servers that take LISTEN_FDS (--listen) share a port",
    )


_OUTER = """
import os, select, socket, sys
from pmx.keeper import seccomp
ours, theirs = socket.socketpair()
if (pid := os.fork()) == 0:
    socket.send_fds(theirs, [b"x"], [seccomp.install()])
    os.execv(sys.argv[1], sys.argv[1:])
_, (told,), _, _ = socket.recv_fds(ours, 1, 1)
theirs.close()
poll = select.poll()
poll.register(told, select.POLLIN)
while poll.poll()[0][1] & select.POLLIN:
    try:
        seccomp.let_pass(told, seccomp.receive(told))
    except FileNotFoundError:
        pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_inside_of_a_shared_program_of_another_pmx(pmx: Pmx) -> None:
    found = examine(pmx, sys.executable, "-c", _OUTER)
    assert states(found, "missing") - {"users"} == {"sharing"}
    assert "a pmx that runs this one, answers for ports already (EBUSY)" in found["sharing"]["why"]
    assert "start pmx outside of it" in found["sharing"]["change"]


@x86_64
@pytest.mark.parametrize(
    ("rules", "check", "state", "why", "change"),
    [
        ("setsockopt arg2=51 EPERM", "steering", "missing", "SO_ATTACH_REUSEPORT_CBPF is refused (EPERM)", "Linux 4.5"),
        ("pidfd_open EPERM", "ending", "missing", "pidfd_open(2) is refused (EPERM)", "pidfd_open(2)"),
        ("prctl arg0=36 EPERM", "family", "missing", "PR_SET_CHILD_SUBREAPER is refused", "prctl(2)"),
        ("splice EPERM", "logs", "missing", "would be dropped", "allow splice(2)"),
        ("splice EINVAL", "logs", "restricted", "output is copied", "local disk"),
        ("fcntl arg1=1031 EPERM", "logs", "restricted", "a pipe holds only 64 KiB, not 256", "fs.pipe-user-pages-soft"),
        ("setsockopt arg2=16 EPERM", "notify", "missing", "SO_PASSCRED", "abstract AF_UNIX"),
        ("socket arg0=16 EPERM", "queues", "restricted", "sock_diag(7) is refused (EPERM)", "AF_NETLINK"),
        ("socket arg0=10 EAFNOSUPPORT", "ipv6", "restricted", "not to be had (EAFNOSUPPORT)", "disable_ipv6=0"),
        ("inotify_init1 EMFILE", "watch", "restricted", "no inotify to be had (EMFILE)", "max_user_instances"),
    ],
)
def test_one_guarantee_falls_and_the_others_hold(
    pmx: Pmx, rules: str, check: str, state: str, why: str, change: str
) -> None:
    found = denied(pmx, rules)
    assert found[check]["state"] == state
    assert why in found[check]["why"]
    assert change in found[check]["change"]
    assert states(found, "missing") - {check} == set()


@x86_64
def test_without_steering_a_crash_still_loses_nothing_that_waits(pmx: Pmx) -> None:
    crash = denied(pmx, "setsockopt arg2=51 EPERM")["crash"]
    assert crash["state"] == "restricted"
    assert "its share of new connections waits for the replacement" in crash["why"]


@x86_64
def test_without_so_reuseport_nothing_is_shared(pmx: Pmx) -> None:
    found = denied(pmx, "setsockopt arg2=15 EPERM")
    assert states(found, "missing") - {"users"} == {"sharing", "declared", "reuseport", "steering", "crash"}
    assert "cannot listen on one port (EPERM)" in found["reuseport"]["why"]
    assert "until then" not in found["sharing"]["change"]


@x86_64
def test_pidfd_getfd_does_not_matter(pmx: Pmx) -> None:
    assert states(denied(pmx, "pidfd_getfd EPERM"), "missing") == set()


_SMALL_NETWORK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
for setting in ("core/somaxconn=77", "ipv6/conf/all/disable_ipv6=1", "ipv4/ip_unprivileged_port_start=0"):
    name, _, value = setting.partition("=")
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write(value)
os.execv(sys.argv[1], sys.argv[1:])
"""


@root_only
def test_settings_of_the_network_are_seen_by_their_effect(pmx: Pmx) -> None:
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    found = examine(pmx, "unshare", "-n", sys.executable, "-c", _SMALL_NETWORK)
    assert states(found, "missing") == set()
    assert "only 77 connections wait" in found["backlog"]["why"]
    assert "net.core.somaxconn" in found["backlog"]["change"]
    assert "EADDRNOTAVAIL" in found["ipv6"]["why"]
    assert found["ports"]["state"] == "ok"


def test_few_descriptors(pmx: Pmx) -> None:
    found = examine(pmx, "sh", "-c", 'ulimit -n 150; exec "$@"', "sh")
    assert found["descriptors"]["state"] == "restricted"
    assert found["descriptors"]["why"] == "the hard limit of 150 open files serves about 20 programs"
    assert "LimitNOFILE" in found["descriptors"]["change"]


def test_a_home_that_others_may_enter(pmx: Pmx) -> None:
    pmx.path.mkdir()
    pmx.path.chmod(0o755)
    home = examine(pmx)["home"]
    assert home["state"] == "missing"
    assert "its mode 0755 lets others in" in home["why"]
    assert f"chmod 700 {pmx.path}" in home["change"]
    pmx.path.chmod(0o700)


def test_a_home_where_nothing_can_be_written(pmx: Pmx) -> None:
    found = examine(pmx, env={"PMX_HOME": "/proc/pmx"})
    assert states(found, "missing") == {"home"}
    assert found["home"]["why"] == "nothing can be written in or for /proc/pmx"
    assert "set PMX_HOME" in found["home"]["change"]


# ── for people ──────────────────────────────────────────────────────────────────────────────────────────────────


def on_terminal(command: Sequence[str], pmx: Pmx, **environment: str) -> str:
    """What `command` writes on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    env: dict[str, Any] = {**pmx.env, "LANG": "C.UTF-8", "TERM": "xterm", **environment}
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=theirs, stderr=subprocess.DEVNULL):
        os.close(theirs)
        said = b""
        try:
            while data := os.read(ours, 65536):
                said += data
        except OSError:
            pass  # EIO: the terminal has no other end any more
    os.close(ours)
    return said.decode().replace("\r\n", "\n")


@x86_64
def test_on_a_terminal_marks_and_below_what_to_change(pmx: Pmx) -> None:
    command = [sys.executable, DENYING, "setsockopt arg2=51 EPERM", "splice EINVAL", "--", *pmx.argv("doctor")]
    said = on_terminal(command, pmx, NO_COLOR="1", PATH="/nowhere")
    assert "\x1b" not in said
    assert "│ ✓ │ sharing     │ any server shares its port with its siblings, unmodified │" in said
    assert "│ ✗ │ steering    │ who crashed or is being replaced gets no new connection  │" in said
    assert "│ ! │ logs " in said
    assert "│ - │ node " in said
    table, _, notes = said.partition("└")
    assert max(map(len, table.split("\n"))) <= 80
    assert f"✗ steering: {GUARANTEES['steering']}\n" in notes
    assert "│ change │ use Linux 4.5 or newer, and allow setsockopt(2) with" in notes
    assert "- node: not tried: no node here\n" in notes


def test_colour_on_a_terminal_only(pmx: Pmx) -> None:
    environment = {name: value for name, value in pmx.env.items() if name != "NO_COLOR"}
    pmx.env = environment
    assert "\x1b[32m✓\x1b[0m" in on_terminal(pmx.argv("doctor"), pmx)
    piped = pmx("doctor", cwd=ROOT, status=0 if not states(examine(pmx), "missing") else 1).stdout
    assert "\x1b" not in piped
    assert piped.split("\n")[0].split() == ["state", "check", "guarantee", "why", "change"]
    assert len(piped.splitlines()) == 1 + len(GUARANTEES)

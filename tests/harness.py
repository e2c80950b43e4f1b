"""A pmx of its own for each test: a private home, the real command, the real event bus.

Nothing here sleeps to wait. A test waits for an event on the bus (`Pmx.expect`), for the end of a process (pidfd), or,
at the outermost edge only, for something the world shows (`eventually`).
"""

import errno
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pmx.client.zmtp import Socket
from pmx.paths import Home
from pmx.wire.codec import decode_event

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "tests" / "apps"
EXAMPLES = ROOT / "examples"

PATIENCE = 30.0 * float(os.environ.get("PMX_TEST_FACTOR", "1"))
"""Seconds after which a test gives up. Never a measure of speed."""

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str = "") -> T:
    """The first true answer of `look`, asked often until PATIENCE is over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:.0f} s: {what or look}")
        select.select([], [], [], 0.02)


def wait_for_end(pid: int) -> None:
    """Until the process `pid` has ended, whosever child it is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), f"pid {pid} has not ended"
    finally:
        os.close(fd)


def alive(pid: int) -> bool:
    """Whether `pid` runs: a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody has, on any address. Not one that the kernel gives to clients, who would take it meanwhile."""
    while True:
        port = random.randrange(10_000, 32_000)  # net.ipv4.ip_local_port_range begins at 32768
        try:
            for host, family in (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)):
                with socket.socket(family) as probe:
                    probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
        return port


class Pmx:
    """The pmx command on a private home."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "home"
        self.home = Home(str(self.path))
        self.work = root / "work"
        self.work.mkdir()
        binaries = os.path.dirname(sys.executable)
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PMX_")},
            "PMX_HOME": str(self.path),
            "PATH": f"{binaries}:{os.environ['PATH']}",
        }

    def __call__(self, *args: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``pmx args``; its exit status must be `status`."""
        done = subprocess.run(
            self.argv(*args),
            **{"env": self.env, "cwd": self.work, "capture_output": True, "text": True, "timeout": 90, **options},
        )
        assert done.returncode == status, f"pmx {args} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "pmx", *args]

    def jlist(self) -> list[dict[str, Any]]:
        """What jlist says."""
        out = self("jlist").stdout
        assert out.count("\n") == 1, "jlist prints one line and nothing else"
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def one(self, name: str) -> dict[str, Any]:
        """The only process called `name`."""
        (found,) = (each for each in self.jlist() if each["name"] == name)
        return found

    def pids(self, name: str) -> list[int]:
        return [each["pid"] for each in self.jlist() if each["name"] == name]

    def keeper_and_daemon(self) -> tuple[int, int]:
        words = self("ping").stdout.replace(",", "").replace(")", "").split()
        return int(words[words.index("keeper") + 1]), int(words[words.index("(pid") + 1])

    @contextmanager
    def events(self, prefix: str = "process."):  # type: ignore[no-untyped-def]
        """The event bus from now on: yields a function that waits for an event that fits."""
        bus = Socket(self.home.events, "SUB", PATIENCE)
        bus.send(b"\x01" + prefix.encode())
        self("ping")  # the daemon has taken the subscription before it answers
        try:
            yield lambda fits: self._expect(bus, fits)
        finally:
            bus.close()

    def _expect(self, bus: Socket, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        seen: list[dict[str, Any]] = []
        while (rest := deadline - time.monotonic()) > 0:
            try:
                event = decode_event(bus.receive(rest)[-1])
            except TimeoutError:
                break
            seen.append(event.data)
            if fits(event.data):
                return event.data
        raise AssertionError(f"no such event; seen: {seen}")

    def log(self, name: str) -> str:
        """keeper or daemon log, or a file in logs."""
        for path in (self.path / name, self.path / "logs" / name):
            if path.exists():
                return path.read_text(errors="replace")
        return ""

    def processes(self) -> dict[int, str]:
        """Every living process that has this home in its environment or command line."""
        found = {}
        mark = str(self.path).encode()
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if (mark in command or b"PMX_HOME=" + mark in environment) and alive(int(entry)):
                found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def close(self) -> None:
        """Ask politely, then see that nothing is left; whatever is left is killed and reported."""
        said = subprocess.run(self.argv("kill"), env=self.env, capture_output=True, text=True, timeout=90)
        survivors = self.processes()
        for pid in survivors:
            os.kill(pid, signal.SIGKILL)
        assert said.returncode == 0, f"pmx kill: {said.stderr}"
        assert not survivors, f"left behind: {survivors}"
        left = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
        assert left <= {"logs", "keeper.log", "daemon.log"}, f"left in the home: {left}"

    def tell(self) -> str:
        """Everything that helps to understand a failed test."""
        texts = [f"{name}:\n{self.log(name)}" for name in ("keeper.log", "daemon.log")]
        return "\n".join(texts)


@contextmanager
def private_pmx():  # type: ignore[no-untyped-def]
    """A Pmx in a short temporary directory, gone afterwards unless something failed."""
    root = Path(tempfile.mkdtemp(prefix="pmxt-", dir="/tmp"))
    pmx = Pmx(root)
    try:
        yield pmx
    except BaseException:
        print(pmx.tell())
        subprocess.run(pmx.argv("kill"), env=pmx.env, capture_output=True, timeout=90)
        for pid in pmx.processes():
            os.kill(pid, signal.SIGKILL)
        raise
    pmx.close()
    shutil.rmtree(root)

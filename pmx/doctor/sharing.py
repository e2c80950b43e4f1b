"""Two servers on one port, a crash, a replacement: as pmx does it, with the trap and with declared sockets."""

import os
import signal
import socket
from collections.abc import Iterator
from typing import NamedTuple

from pmx.doctor.finding import NOT_TRIED, Finding
from pmx.doctor.parts import broken_part
from pmx.doctor.shop import SERVER, Shop, free_port, python
from pmx.doctor.trial import patience
from pmx.keeper import protocol as p

CHECKS = ("sharing", "users", "elevation", "declared", "crash")

_NOBODY = 65534
_MANY = 40  # at random over two, some reach the other; but for one case in 2 to the power of 39
_NO_NEW_PRIVS = b"\nNoNewPrivs:\t1\n"


class Outcome(NamedTuple):
    """How far it came. `problem` is empty when both answered."""

    problem: str
    promised: bool = False  # no_new_privs, which this process has not
    steered: bool = False  # nothing new came to the one that had crashed
    kept: bool = False  # what waited for it was served by its replacement


def trial() -> Iterator[Finding]:
    trapped, declared = share(trap=True), share(trap=False)
    yield _sharing(trapped)
    yield _users(trapped)
    yield _elevation(trapped)
    yield Finding("declared", "missing", declared.problem, "see reuseport") if declared.problem else Finding("declared")
    yield _crash(trapped, declared)


def share(trap: bool) -> Outcome:
    """Have two servers share a port, which they bind themselves or are given; kill one, and replace it."""
    shop = Shop()
    try:
        return _Act(shop, trap).play()
    except OSError as error:
        return Outcome(error.strerror or str(error))
    finally:
        shop.close()


class _Act:
    def __init__(self, shop: Shop, trap: bool) -> None:
        self._shop = shop
        self._trap = trap
        self._port = free_port()
        self._url = f"tcp://127.0.0.1:{self._port}"

    def play(self) -> Outcome:
        first, second = self._start(0, 1), self._start(1, 1)
        if not (self._listens(0, 1) and self._listens(1, 1)):
            return Outcome(self._why_not() or "two servers cannot both listen on one port")
        answers = {self._answer(1.0) for _ in range(_MANY)}
        if answers != {first, second}:
            return Outcome(f"of two servers on one port, {len(answers)} answered")
        promised = _has_promised(first) and not _has_promised(os.getpid())
        waiting = self._leave_waiting(first)
        self._shop.kill(first)
        steered = all(self._answer(0.3) == second for _ in range(_MANY // 2))
        replacement = self._start(0, 2)
        kept = waiting is not None and self._listens(0, 2) and _read(waiting, 1.0) == replacement
        if waiting is not None:
            waiting.close()
        return Outcome("", promised, steered, kept)

    def _start(self, slot: int, run: int) -> int:
        order = python(f"s{slot}", run, SERVER, str(self._port))._replace(group="doctor", slot=slot, trap=self._trap)
        return self._shop.start(order if self._trap else order._replace(sockets=[("web", self._url)]))

    def _listens(self, slot: int, run: int) -> bool:
        """Whether the run came to listen. It did not when it has ended, or serves the port for itself."""

        def known() -> bool:
            said = (each for each in self._shop.said if isinstance(each, p.Listening))
            return any((each.key, each.run, each.itself) == (*name, self._trap) for each in said)

        name = (f"s{slot}", run)
        self._shop.until(lambda: known() or self._why_not() or name not in self._shop.programs.runs.by_key, 1.0)
        return known()

    def _why_not(self) -> str:
        whys = [each.why for each in self._shop.said if isinstance(each, p.Unshared)]
        return whys[0] if whys else ""

    def _answer(self, limit: float) -> int:
        """The pid that a new connection is answered with; 0 when none comes."""
        with self._connect() as client:
            return _read(client, limit)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), patience())

    def _leave_waiting(self, pid: int) -> socket.socket | None:
        """A connection that waits for the server `pid`, which is stopped now."""
        os.kill(pid, signal.SIGSTOP)
        slot = next(each for each in self._shop.programs.slots.by_inode.values() if each.number == 0)
        for _ in range(_MANY):
            client = self._connect()
            if _read(client, 0.0) == 0 and queue_length(slot.sock) > 0:
                return client
            client.close()
        return None


def queue_length(listener: socket.socket) -> int:
    """Connections that wait at `listener` (tcp_info: tcpi_unacked of a listener). Raises OSError."""
    return int.from_bytes(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24:28], "little")


def _read(client: socket.socket, limit: float) -> int:
    client.settimeout(limit * patience())
    try:
        return int(client.recv(20) or b"0")
    except OSError:
        return 0


def _has_promised(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return _NO_NEW_PRIVS in file.read()
    except OSError:
        return False


# ── what it means ───────────────────────────────────────────────────────────────────────────────────────────────


def _sharing(trapped: Outcome) -> Finding:
    if not trapped.problem:
        return Finding("sharing")
    broken = broken_part()
    why, change = broken.words() if broken else (trapped.problem, "see reuseport and queues; report it if they hold")
    return Finding("sharing", "missing", why, change)


def _users(trapped: Outcome) -> Finding:
    if os.geteuid() != 0:
        return Finding("users", why=f"{NOT_TRIED}only root may start programs as another user")
    if trapped.problem:
        return Finding("users", "missing", "servers do not share ports at all", "see sharing")
    broken = broken_part(_NOBODY)
    if broken is None:
        return Finding("users")
    if broken.part == "identity":
        return Finding("users", why=f"{NOT_TRIED}{broken.words(_NOBODY)[0]}")
    return Finding("users", "missing", *broken.words(_NOBODY))


def _elevation(trapped: Outcome) -> Finding:
    if trapped.problem:
        return Finding("elevation", why=f"{NOT_TRIED}nothing is shared (sharing)")
    if not trapped.promised:
        return Finding("elevation")
    return Finding(
        "elevation",
        "restricted",
        "setuid programs such as sudo will not elevate inside shared programs: without CAP_SYS_ADMIN the kernel wants"
        " no_new_privs before it takes a filter",
        "--no-share for a program that needs sudo; or run pmx as root (in a container: --cap-add SYS_ADMIN)",
    )


def _crash(trapped: Outcome, declared: Outcome) -> Finding:
    if trapped.kept and trapped.steered:
        return Finding("crash")
    if trapped.kept:
        return Finding(
            "crash",
            "restricted",
            "until who crashed is replaced, its share of new connections waits for the replacement",
            "see steering",
        )
    if declared.kept:
        return Finding(
            "crash", "restricted", "only servers that take LISTEN_FDS (--listen) share a port", "see sharing"
        )
    return Finding("crash", "missing", "no port could be shared, or what waited got no answer", "see sharing")

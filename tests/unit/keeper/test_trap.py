"""What becomes of bind(2) and listen(2) of real programs, by the rules of kernel.md, A4."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pmx.keeper import protocol as p, seccomp
from tests.unit.keeper.puppet import Puppet, Puppets, connect, free_port, served
from tests.unit.keeper.stage import Stage
from tests.unit.support import ROOT, await_end, read_until

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a program another user")
REUSE_PORT = "(SOL_SOCKET, SO_REUSEPORT, 1)"


def refused_with(puppet: Puppet, code: str) -> str:
    """The name of the error that `code` ends with."""
    with pytest.raises(OSError) as caught:  # which is what we return
        puppet(code)
    return errno.errorcode[caught.value.errno or 0]


def test_two_programs_share_a_port(both: Puppets) -> None:
    port = free_port()
    one, two = both.server(port, 0), both.server(port, 1)
    assert served(port).keys() == {one.name, two.name}
    facts = [both.daemon.find(p.Listening, key) for key in "01"]
    assert facts == [
        p.Listening(str(slot), 1, "app", slot, f"tcp://127.0.0.1:{port}", one_or_two("s.fileno()"))
        for slot, one_or_two in enumerate(inode(each) for each in (one, two))
    ]


def inode(puppet: Puppet) -> Callable[[str], int]:
    return lambda fd: int(puppet(f"os.fstat({fd}).st_ino"))


def test_one_program_alone_is_told_of_too(puppets: Puppets) -> None:
    port = free_port()
    only = puppets.server(port)
    assert puppets.daemon.find(p.Listening).url == f"tcp://127.0.0.1:{port}"
    assert served(port, 5) == {only.name: 5}
    only("t = listener(0)")  # of its own, so nothing is told
    assert puppets.daemon.settled() == []


def test_a_program_without_trap_has_its_port_for_itself(puppets: Puppets) -> None:
    port = free_port()
    puppets.server(port, 0, trap=False)
    two = puppets.start(1)
    assert refused_with(two, f"listener({port})") == "EADDRINUSE"


def test_groups_do_not_share_with_each_other(puppets: Puppets) -> None:
    port = free_port()
    puppets.server(port, 0)
    assert refused_with(puppets.start(1, group="other"), f"listener({port})") == "EADDRINUSE"


# ── who asks, and how the socket is ──────────────────────────────────────────────────────────────────────────────


def test_a_thread_may_bind_and_listen(both: Puppets) -> None:
    port = free_port()
    threaded = both.start()
    threaded(f"s = in_thread(lambda: listener({port})); serve(s)")
    assert both.daemon.find(p.Listening).url == f"tcp://127.0.0.1:{port}"
    assert served(port, 3) == {threaded.name: 3}


def test_close_on_exec_is_as_it_was(puppets: Puppets) -> None:
    program = puppets.start()
    for inheritable in (True, False):
        program(f"s = socket(); s.set_inheritable({inheritable}); s.bind(('127.0.0.1', {free_port()}))")
        assert program("s.get_inheritable()") is inheritable


def blocking(puppet: Puppet, fd: str = "s.fileno()") -> bool:
    return bool(puppet(f"os.get_blocking({fd})"))


def test_a_socket_of_ones_own_blocks_as_the_program_wants(puppets: Puppets) -> None:
    port = free_port()
    for number, wanted in enumerate((True, False, True, True, False)):
        program = puppets.start(0, run=number + 1)
        program(f"s = listener({port}, blocking={wanted})")
        assert blocking(program) is wanted, "whatever its predecessor wanted"
        puppets.kill(program)


def test_an_event_loop_that_comes_later_is_not_stopped_by_those_who_block(puppets: Puppets) -> None:
    """With balance shared they have one socket, and O_NONBLOCK belongs to that."""
    port = free_port()
    blocks = puppets.start(0, key="0")
    blocks(f"s = listener({port})")
    loops = puppets.start(0, key="1")
    loops(f"s = listener({port}, blocking=False)")
    assert not blocking(loops)
    again = puppets.start(0, key="2")
    again(f"s = listener({port})")
    assert not blocking(loops)


def test_who_blocks_does_not_stop_an_event_loop_that_is_about_to_listen(puppets: Puppets) -> None:
    port = free_port()
    loops, blocks = puppets.start(0, key="0"), puppets.start(0, key="1")
    loops(f"s = socket(); s.setblocking(False); s.bind(('127.0.0.1', {port}))")
    blocks(f"s = listener({port})")
    assert not blocking(loops)


def test_what_one_has_bound_another_does_not_close_by_its_end(puppets: Puppets) -> None:
    """Both have slot 0, and only one of them ends before it listens."""
    port = free_port()
    stays, ends = puppets.start(0, key="0"), puppets.start(0, key="1")
    for each in (stays, ends):
        each(f"s = socket(); s.bind(('127.0.0.1', {port}))")
    puppets.kill(ends, "1")
    stays("s.listen(); serve(s)")
    assert puppets.daemon.find(p.Listening, "0").slot == 0
    assert served(port, 3) == {stays.name: 3}


def test_a_connection_is_not_delayed(puppets: Puppets) -> None:
    """TCP_NODELAY is inherited from the listener, as a program that sets it there expects."""
    port = free_port()
    program = puppets.start()
    program(f"s = listener({port})")
    with connect(port):
        assert program("s.accept()[0].getsockopt(IPPROTO_TCP, TCP_NODELAY)") == 1


def backlog(puppet: Puppet) -> int:
    return int(puppet("struct.unpack_from('=I', s.getsockopt(IPPROTO_TCP, TCP_INFO, 32), 28)[0]"))


def test_the_queue_is_long_and_only_grows(puppets: Puppets) -> None:
    program = puppets.start()
    program(f"s = listener({free_port()}, backlog=1)")
    assert backlog(program) == 511
    for wanted, then in ((1000, 1000), (600, 1000), (1, 1000), (1500, 1500)):
        program(f"s.listen({wanted})")
        assert backlog(program) == then


def test_the_program_sees_the_address_that_it_bound(puppets: Puppets) -> None:
    port, program = free_port(), puppets.start()
    program(f"s = socket(); s.bind(('127.0.0.1', {port}))")
    assert program("s.getsockname()") == ["127.0.0.1", port]
    program(f"s = socket(AF_INET6); s.bind(('::1', {free_port()}))")
    assert program("s.getsockname()[0]") == "::1"


# ── what is not shared ───────────────────────────────────────────────────────────────────────────────────────────


def test_any_port_is_the_programs_own(puppets: Puppets) -> None:
    one, two = puppets.server(0, 0), puppets.server(0, 1)
    ports = [each("s.getsockname()[1]") for each in (one, two)]
    assert ports[0] != ports[1]
    assert served(ports[0], 3) == {one.name: 3}
    assert puppets.daemon.settled() == []
    puppets.kill(one)
    with pytest.raises(ConnectionRefusedError):
        connect(ports[0])


def test_a_path_is_the_programs_own(puppets: Puppets, short_dir: str) -> None:
    program = puppets.start()
    program(f"s = socket(AF_UNIX); s.bind({short_dir + '/s'!r}); s.listen()")
    assert puppets.daemon.settled() == []
    assert refused_with(program, f"socket(AF_UNIX).bind({short_dir + '/s'!r})") == "EADDRINUSE"


def test_a_udp_port_is_the_programs_own(puppets: Puppets) -> None:
    port, one, two = free_port(), puppets.start(0), puppets.start(1)
    one(f"s = socket(type=SOCK_DGRAM); s.bind(('127.0.0.1', {port}))")
    assert refused_with(two, f"socket(type=SOCK_DGRAM).bind(('127.0.0.1', {port}))") == "EADDRINUSE"
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", ("127.0.0.1", port))
        assert one("s.recv(10).decode()") == "hello"


def test_a_client_that_binds_has_a_connection_of_its_own(both: Puppets) -> None:
    """The peer sees it end when the program closes it: nobody else holds it."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        for slot in (0, 1):
            client = both.start(slot)
            client(f"s = socket(); s.bind(('127.0.0.{slot + 1}', {port})); s.connect({server.getsockname()!r})")
            peer, address = server.accept()
            with peer:
                assert address == (f"127.0.0.{slot + 1}", port)
                both.daemon.settled()
                client("s.sendall(b'bye'); s.close()")
                assert read_until(peer.fileno(), b"never") == b"bye"
    assert both.daemon.settled() == []


def test_two_clients_may_bind_the_same_port(puppets: Puppets) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        clients = [puppets.start(slot) for slot in (0, 1)]
        for client in clients:
            client(f"s = socket(); s.bind(('127.0.0.1', {port}))")
        for client, server in zip(clients, (first, second), strict=True):
            client(f"s.connect({server.getsockname()!r})")
            server.accept()[0].close()
            assert client("s.recv(1) == b''")


def test_what_is_bound_and_never_listened_on_is_given_up_with_its_program(puppets: Puppets) -> None:
    port, program = free_port(), puppets.start()
    program(f"s = socket(); s.bind(('127.0.0.1', {port}))")
    puppets.kill(program)
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", port))


# ── errors as it would see them alone ────────────────────────────────────────────────────────────────────────────


def test_a_port_that_somebody_else_has_is_in_use(both: Puppets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        program = both.start()
        assert refused_with(program, f"listener({port})") == "EADDRINUSE"
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # so that others may join it, but not unasked
        assert refused_with(program, f"listener({port})") == "EADDRINUSE"
    program(f"s = listener({port}); serve(s)")
    assert served(port, 3) == {program.name: 3}


def test_how_connections_are_spread_is_not_forgotten_over_a_port_in_use(puppets: Puppets) -> None:
    """It is told once; the first attempt failing must not cost it."""
    puppets.daemon.say(p.Steer("app", "random", [(0, 0), (1, 1)]))
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        one, two = puppets.start(0), puppets.start(1)
        assert refused_with(one, f"listener({port})") == "EADDRINUSE"
        puppets.daemon.say(p.Release("app", 2))
    for each in (one, two):
        each(f"s = listener({port}); serve(s)")
    assert served(port) == {two.name: 40}


def test_an_address_that_the_machine_has_not_is_refused(puppets: Puppets) -> None:
    assert refused_with(puppets.start(), f"listener({free_port()}, '192.0.2.1')") == "EADDRNOTAVAIL"


def test_the_same_address_twice_is_in_use(puppets: Puppets) -> None:
    port = free_port()
    program = puppets.server(port)
    assert refused_with(program, f"listener({port})") == "EADDRINUSE"
    assert refused_with(program, f"in_thread(lambda: listener({port}))") == "EADDRINUSE"


def test_the_same_address_twice_is_allowed_to_who_asks_for_it(puppets: Puppets) -> None:
    port = free_port()
    program = puppets.server(port)
    program(f"t = listener({port}, '127.0.0.1', 5, True, {REUSE_PORT}); serve(t)")
    program("s.close()")
    assert served(port, 3) == {program.name: 3}
    assert refused_with(program, f"listener({port}, '127.0.0.1', 5, True, (SOL_SOCKET, SO_REUSEPORT, 0))")


def test_an_address_may_be_bound_again_after_a_close(puppets: Puppets) -> None:
    port = free_port()
    program = puppets.start()
    for _ in range(3):
        program(f"s = listener({port}); s.close()")
    program(f"s = listener({port}); serve(s)")
    assert served(port, 3) == {program.name: 3}


def test_a_socket_is_bound_once(puppets: Puppets) -> None:
    program = puppets.start()
    program(f"s = socket(); s.bind(('127.0.0.1', {free_port()}))")
    assert refused_with(program, f"s.bind(('127.0.0.1', {free_port()}))") == "EINVAL"
    assert refused_with(program, f"s.bind(('127.0.0.1', {program('s.getsockname()[1]')}))") == "EINVAL"
    program("s.listen()")


BIND = """
if ctypes.CDLL(None, use_errno=True).bind(s.fileno(), {}) != 0:
    raise OSError(ctypes.get_errno(), "bind")
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("None, 16", "EFAULT"),
        ("ctypes.c_void_p(-1), 16", "EFAULT"),
        ("ctypes.c_void_p(1 << 46), 16", "EFAULT"),
        ("struct.pack('=H', 2), 2", "EINVAL"),
        ("struct.pack('=H', 99) + bytes(14), 16", "EAFNOSUPPORT"),
        ("struct.pack('!HHIIIII', 0x0a00, 7000, 0, 0, 0, 0, 0), 28", "EAFNOSUPPORT"),  # IPv6 for a socket of IPv4
    ],
)
def test_nonsense_is_refused_as_the_kernel_does(puppets: Puppets, stage: Stage, arguments: str, expected: str) -> None:
    program = puppets.start()
    program("s = socket()")
    assert refused_with(program, BIND.format(arguments)) == expected
    assert (
        refused_with(program, "socket(fileno=os.open('/dev/null', 0), family=AF_INET, type=SOCK_STREAM)") == "ENOTSOCK"
    )
    assert "internal error" not in stage.log()


def test_an_option_whose_value_cannot_be_read_is_refused_as_the_kernel_does(puppets: Puppets, stage: Stage) -> None:
    program = puppets.start()
    program("s = socket(AF_INET6); libc = ctypes.CDLL(None, use_errno=True)")
    assert program("libc.setsockopt(s.fileno(), 41, 26, ctypes.c_void_p(-1), 4), ctypes.get_errno()") == [
        -1,
        errno.EFAULT,
    ]
    assert program("libc.setsockopt(s.fileno(), 41, 26, b'', 0), ctypes.get_errno()")[0] == -1
    assert "internal error" not in stage.log()


# ── several addresses ────────────────────────────────────────────────────────────────────────────────────────────


def test_several_ports_are_all_shared(puppets: Puppets) -> None:
    ports = [free_port() for _ in range(3)]
    programs = [puppets.start(slot) for slot in (0, 1)]
    for program in programs:
        for port in ports:
            program(f"serve(listener({port}))")
    for port in ports:
        assert served(port).keys() == {each.name for each in programs}


V6_ONLY = "(IPPROTO_IPV6, IPV6_V6ONLY, {})"


def test_both_families_on_one_port(both: Puppets) -> None:
    port = free_port()
    programs = [both.start(slot) for slot in (0, 1)]
    for program in programs:
        program(f"serve(listener({port}, '0.0.0.0'), NAME + ' v4')")
        program(f"serve(listener({port}, '::', 5, True, {V6_ONLY.format(1)}), NAME + ' v6')")
    for host, family in (("127.0.0.1", "v4"), ("::1", "v6")):
        assert served(port, host=host).keys() == {f"{each.name} {family}" for each in programs}


def test_one_socket_for_both_families(puppets: Puppets) -> None:
    port = free_port()
    programs = [puppets.start(slot) for slot in (0, 1)]
    for program in programs:
        program(f"s = listener({port}, '::', 5, True, {V6_ONLY.format(0)}); serve(s)")
    for host in ("127.0.0.1", "::1"):
        assert served(port, host=host).keys() == {each.name for each in programs}
    assert puppets.daemon.find(p.Listening).url == f"tcp://[::]:{port}"
    for program in programs:
        assert refused_with(program, f"listener({port}, '0.0.0.0')") == "EADDRINUSE"


def test_what_is_said_of_a_socket_holds_for_that_socket(puppets: Puppets) -> None:
    port = free_port()
    program = puppets.start()
    program("other = socket(AF_INET6); other.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)")
    program(f"s = listener({port}, '::'); serve(s)")  # both families, as it is by default
    assert served(port, 3) == {program.name: 3}


# ── many processes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_children_accept_from_the_socket_of_their_parent(puppets: Puppets) -> None:
    port = free_port()
    parent = puppets.start()
    parent(f"s = listener({port})")
    parent(
        "for n in 'ab':\n if os.fork() == 0:\n  while True:\n   c, _ = s.accept(); c.sendall(n.encode()); c.close()\n"
    )
    assert set(served(port)) <= {"a", "b"}


def test_a_grandchild_that_left_is_still_asked_about(puppets: Puppets) -> None:
    """Forked twice, in a session of its own, and its parent is gone."""
    port = free_port()
    program = puppets.start()
    program(
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        " os.setsid()\n"
        " if os.fork() == 0:\n"
        f"  s = listener({port}); os.write(w, b'x')\n"
        "  while True:\n"
        "   c, _ = s.accept(); c.sendall(b'grandchild'); c.close()\n"
        " os._exit(0)\n"
        "os.wait()\n"
        "os.read(r, 1)"
    )
    assert puppets.daemon.find(p.Listening).url == f"tcp://127.0.0.1:{port}"
    assert served(port, 3) == {"grandchild": 3}
    two = puppets.server(port, 1)
    assert served(port).keys() == {"grandchild", two.name}


def test_what_a_run_leaves_behind_gets_nothing_of_it(puppets: Puppets) -> None:
    """Its slot is somebody else's by then."""
    port = free_port()
    program = puppets.start()
    program(
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        " os.setsid(); os.read(r, 1)\n"
        " try:\n"
        f"  listener({port})\n"
        f"  threading.Event().wait()\n"
        " except OSError as error:\n"
        f"  os._exit(error.errno)\n"
    )
    (child,) = program("[int(each) for each in open(f'/proc/self/task/{os.getpid()}/children').read().split()]")
    heir = puppets.server(port, 1)
    with open(f"/proc/{child}/fd/{program('w')}", "wb", buffering=0) as pipe:
        puppets.kill(program)
        pipe.write(b"x")
    await_end(child)  # EADDRINUSE: the port was bound for itself, and not given
    assert served(port) == {heir.name: 40}


def test_a_storm_of_binds_is_served(puppets: Puppets) -> None:
    """200 threads at once, and each gets the answer to its own question."""
    ports = [free_port() for _ in range(50)]
    program = puppets.start()
    program(
        f"ports = {ports!r}\n"
        "start, found = threading.Barrier(200), []\n"
        "def run(port):\n"
        " s = socket(); start.wait()\n"
        " try:\n"
        "  s.bind(('127.0.0.1', port)); found.append((port, s))\n"
        " except OSError as error:\n"
        "  found.append((port, error.errno))\n"
        "threads = [threading.Thread(target=run, args=(port,)) for port in ports * 4]\n"
        "[each.start() for each in threads]; [each.join() for each in threads]\n"
        "won = [(port, s.getsockname()[1]) for port, s in found if not isinstance(s, int)]\n"
        "lost = [s for port, s in found if isinstance(s, int)]\n"
    )
    won = {tuple(each) for each in program("won")}
    assert won == {(port, port) for port in ports}
    assert set(program("lost")) == {errno.EADDRINUSE}
    assert program("len(won) + len(lost)") == 200
    program("s = [s for _, s in found if not isinstance(s, int)][0]; s.listen()")
    assert puppets.daemon.find(p.Listening).inode == program("os.fstat(s.fileno()).st_ino")


def test_a_signal_in_the_middle_of_a_bind_restarts_it(puppets: Puppets, stage: Stage) -> None:
    """As signal(7) has it for a handler with SA_RESTART; one without may get EINTR until the keeper has looked."""
    port, program = free_port(), puppets.start()
    program("got = []; signal.signal(signal.SIGUSR1, lambda *_: got.append(1)); s = socket()")
    program("signal.siginterrupt(signal.SIGUSR1, False)")
    os.kill(stage.process.pid, signal.SIGSTOP)
    program.tell(f"s.bind(('127.0.0.1', {port}))")
    await_bind(program)
    os.kill(program.pid, signal.SIGUSR1)
    os.kill(stage.process.pid, signal.SIGCONT)
    program.answer()
    assert program("got, s.getsockname()[1]") == [[1], port]


def await_bind(program: Puppet) -> None:
    """Until it waits for an answer (its system call is bind, proc(5): /proc/PID/syscall)."""
    assert seccomp.HERE is not None
    while Path(f"/proc/{program.pid}/syscall").read_text().split()[0] != str(seccomp.HERE.bind):
        os.sched_yield()


def test_programs_that_are_killed_while_their_bind_waits_do_no_harm(puppets: Puppets, stage: Stage) -> None:
    port = free_port()
    programs = [puppets.start(slot) for slot in range(3)]
    os.kill(stage.process.pid, signal.SIGSTOP)
    for each in programs:
        each.tell(f"s = listener({port}); serve(s)")
        await_bind(each)
    for each in programs[:2]:
        os.kill(each.pid, signal.SIGKILL)
        await_end(each.pid)
    os.kill(stage.process.pid, signal.SIGCONT)
    programs[2].answer()
    for key in "01":
        puppets.daemon.find(p.Exited, key)
    assert served(port, 5) == {programs[2].name: 5}
    assert "internal error" not in stage.log()


# ── what other programs do to a listener ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_listener_that_was_shut_down_is_opened_again(puppets: Puppets, count: int) -> None:
    """As twisted and webrick do when they end: shutdown(2) is about the socket, and everybody has that."""
    port = free_port()
    programs = [puppets.server(port, slot) for slot in range(count)]
    for slot in range(count):
        programs[slot]("s.shutdown(SHUT_RDWR)")
        puppets.kill(programs[slot], str(slot))
        others = {each.name for each in programs if each is not programs[slot]}
        if others:
            assert served(port).keys() <= others, "nothing goes to who has gone"
        programs[slot] = puppets.server(port, slot, run=2)
        assert served(port, 60).keys() == {each.name for each in programs}


# ── rights ───────────────────────────────────────────────────────────────────────────────────────────────────────


@ROOT_ONLY
def test_a_privileged_port_is_refused_to_who_may_not_have_it(puppets: Puppets) -> None:
    nobody = puppets.start(0, uid=65534, gid=65534, groups=[])
    assert refused_with(nobody, "listener(81)") == "EACCES"
    port = free_port()
    nobody(f"s = listener({port}); serve(s)")
    assert served(port, 2) == {nobody.name: 2}


@ROOT_ONLY
def test_a_privileged_port_that_was_granted_is_had(puppets: Puppets) -> None:
    nobody = puppets.start(0, uid=65534, gid=65534, groups=[], ports=[81])
    nobody("s = listener(81); serve(s)")
    assert served(81, 2) == {nobody.name: 2}
    assert refused_with(nobody, "listener(82)") == "EACCES"


@ROOT_ONLY
def test_a_privileged_port_is_had_by_who_has_the_capability(puppets: Puppets) -> None:
    root = puppets.start(0)
    root("s = listener(83); serve(s)")
    assert served(83, 2) == {root.name: 2}
    assert puppets.daemon.find(p.Listening).url == "tcp://127.0.0.1:83"


@ROOT_ONLY
def test_capabilities_in_a_namespace_of_ones_own_are_none(puppets: Puppets) -> None:
    """unshare -Ur gives everybody all of them; what counts is where the port is."""
    nobody = puppets.start(0, uid=65534, gid=65534, groups=[])
    if nobody("ctypes.CDLL(None).unshare(0x10000000)") != 0:  # CLONE_NEWUSER
        pytest.skip("no user namespaces here")
    assert int(nobody("[l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1]"), 16) != 0
    assert refused_with(nobody, "listener(84)") == "EACCES"


@ROOT_ONLY
def test_a_network_of_ones_own_is_not_left(puppets: Puppets) -> None:
    """A port in it is not ours to bind: ours would be on the machine's network."""
    port = free_port()
    program = puppets.start()
    if program("ctypes.CDLL(None).unshare(0x40000000)") != 0:  # CLONE_NEWNET
        pytest.skip("no network namespaces here")
    program(f"s = listener({port}, '0.0.0.0')")
    assert puppets.daemon.settled() == []
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_who_may_not_be_looked_into_has_its_port_for_itself_and_says_so(theirs: Puppets) -> None:
    """An ordinary user may not read the memory of a process that is not dumpable."""
    port, program = free_port(), theirs.start()
    program("ctypes.CDLL(None).prctl(4, 0)")  # PR_SET_DUMPABLE
    program(f"s = listener({port}); serve(s)")
    unshared = theirs.daemon.find(p.Unshared)
    assert unshared == p.Unshared("0", 1, "its process may not be looked into (EACCES)")
    assert served(port, 2) == {program.name: 2}
    assert theirs.daemon.settled() == [], "once"


def test_privileges_do_not_grow_where_we_have_none(theirs: Puppets) -> None:
    """no_new_privs is the price of the filter for who is not root; a program cannot have port 81 either way."""
    program = theirs.start(ports=[81])
    assert program("[l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1]") == "1"
    assert refused_with(program, "listener(81)") == "EACCES"


@ROOT_ONLY
def test_root_keeps_programs_that_change_their_user_working(puppets: Puppets) -> None:
    program = puppets.start()
    assert program("[l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1]") == "0"


# ── within another manager ───────────────────────────────────────────────────────────────────────────────────────

OTHER_MANAGER = """
import os, select, socket, sys
sys.path.insert(0, sys.argv[1])
from pmx.keeper import seccomp
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    socket.send_fds(theirs, [b"x"], [seccomp.install()])
    os.execvp(sys.argv[2], sys.argv[2:])
theirs.close()
_, (told,), _, _ = socket.recv_fds(ours, 1, 1)
ended = os.pidfd_open(pid)
while ended not in select.select([told, ended], [], [])[0]:
    try:
        seccomp.let_pass(told, seccomp.receive(told))
    except OSError:
        pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_within_another_manager_a_program_has_its_port_for_itself_and_says_so(
    nothing_left: None, short_dir: str
) -> None:
    """The other one has the only listener that a chain of filters may have, and lets everything pass."""
    stage = Stage(short_dir, within=[sys.executable, "-I", "-S", "-c", OTHER_MANAGER, ROOT])
    puppets = Puppets(stage.ready(), short_dir)
    try:
        port = free_port()
        one, two = puppets.server(port, 0), puppets.start(1)
        for key in "01":
            unshared = puppets.daemon.find(p.Unshared, key)
            assert unshared == p.Unshared(
                key,
                1,
                "another manager further out, perhaps a pmx that runs this one, answers for its ports already (EBUSY)",
            )
        assert refused_with(two, f"listener({port})") == "EADDRINUSE"
        assert served(port, 2) == {one.name: 2}
        puppets.daemon.die()
        heir = stage.ready()
        assert {heir.find(p.Unshared, key).why for key in "01"} == {unshared.why}
    finally:
        puppets.close()
        stage.close()


# ── other languages ──────────────────────────────────────────────────────────────────────────────────────────────

C_SERVER = """
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 5)) return 1;
    for (;;) {
        int c = accept(s, 0, 0);
        if (c < 0) return 2;
        write(c, argv[2], strlen(argv[2]));
        close(c);
    }
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_static_binary_shares_its_port(puppets: Puppets, tmp_path: Path) -> None:
    """LD_PRELOAD would not do here."""
    program, port = str(tmp_path / "server"), free_port()
    (tmp_path / "server.c").write_text(C_SERVER)
    subprocess.run(["gcc", "-static", "-o", program, f"{program}.c"], check=True, timeout=60)
    for slot in (0, 1):
        puppets.daemon.say(puppets.order(slot, argv=[program, str(port), f"c{slot}"]))
        puppets.daemon.find(p.Listening, str(slot))
    assert served(port).keys() == {"c0", "c1"}


NODE_SERVER = "require('net').createServer(c => c.end(process.argv[2])).listen(Number(process.argv[1]))"


@pytest.mark.node
def test_node_shares_its_port_with_both_families(puppets: Puppets) -> None:
    port, node = free_port(), shutil.which("node")
    assert node is not None
    for slot in (0, 1):
        puppets.daemon.say(puppets.order(slot, argv=[node, "-e", NODE_SERVER, str(port), f"node{slot}"]))
        assert puppets.daemon.find(p.Listening, str(slot)).url == f"tcp://[::]:{port}"
    for host in ("127.0.0.1", "::1"):
        assert served(port, host=host).keys() == {"node0", "node1"}

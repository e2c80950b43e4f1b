"""Several instances behind one port, with real servers that know nothing of it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Pmx, eventually, free_port, wait_for_end

SERVER = """
import http.server, os, signal, sys
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["PMX_INSTANCE"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello)
print("up", flush=True)
server.serve_forever()
"""

NODE = """
const cluster = require('node:cluster');
process.on('message', (message) => { console.log('told', message); process.exit(0); });
require('node:http').createServer((_, answer) => answer.end(process.env.PMX_INSTANCE)).listen(process.env.PORT, () => {
  console.log('worker', cluster.isWorker, cluster.worker && cluster.worker.id);
  process.send('ready');
});
"""


def ask(port: int, path: str = "/") -> str:
    """Who answers on `port`; raises OSError when nobody does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def answers(port: int) -> bool:
    try:
        return bool(ask(port))
    except OSError:
        return False


def serving(port: int, instances: set[str]) -> Counter[str]:
    """Ask until each of `instances` has answered, and nobody else; how often each did."""
    seen: Counter[str] = Counter()

    def all_of_them() -> bool:
        seen[ask(port)] += 1
        return instances <= seen.keys()

    eventually(lambda: answers(port))
    eventually(all_of_them, f"{instances} on {port}")
    return seen


class Load:
    """What clients saw that asked without a pause, a new connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: Counter[str] = Counter()
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            try:
                self.seen[ask(self.port)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[f"error {type(error).__name__}"] += 1

    def more(self, count: int) -> None:
        """Until `count` more requests have been answered."""
        before = self.seen.total()
        eventually(lambda: self.seen.total() >= before + count, f"{count} more answers")

    def errors(self) -> dict[str, int]:
        return {what: count for what, count in self.seen.items() if what.startswith("error")}


@contextmanager
def load(port: int, clients: int = 3) -> Iterator[Load]:
    it = Load(port)
    threads = [threading.Thread(target=it.run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        it.more(20)
        yield it
    finally:
        it.ending.set()
        for thread in threads:
            thread.join()


def write(pmx: Pmx, name: str, text: str) -> str:
    (pmx.work / name).write_text(text)
    return name


def start(pmx: Pmx, *options: str, name: str = "web", text: str = SERVER, file: str = "web.py") -> int:
    """Start the server behind a free port; returns the port."""
    port = free_port()
    pmx("start", write(pmx, file, text), "-n", name, "--port", str(port), *options)
    return port


def try_to_start(pmx: Pmx, file: str, port: int) -> None:
    """Whether it dies while `pmx start` watches, or later, depends on how busy the machine is."""
    command = pmx.argv("start", write(pmx, file, SERVER), "--share", "--port", str(port))
    subprocess.run(command, env=pmx.env, cwd=pmx.work, capture_output=True, check=False)


def rows(pmx: Pmx, name: str) -> list[dict[str, str]]:
    """The lines of the plain `pmx ls` about `name`, by header."""
    header, *lines = (line.split("  ") for line in pmx("ls").stdout.splitlines())
    names = [cell.strip() for cell in header if cell.strip()]
    found = [dict(zip(names, (cell.strip() for cell in line if cell.strip()), strict=False)) for line in lines]
    return [row for row in found if row["name"] == name]


def pid_of(pmx: Pmx, instance: int) -> int:
    pids = {each["pm2_env"]["NODE_APP_INSTANCE"]: each["pid"] for each in pmx.jlist()}
    found: int = pids[instance]
    return found


def test_two_instances_serve_one_port_and_the_list_says_so(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    found = rows(pmx, "web")
    assert [row["mode"] for row in found] == ["cluster", "cluster"]
    assert {row["port"] for row in found} == {f"127.0.0.1:{port}"}
    assert all(each["pm2_env"]["exec_mode"] == "cluster_mode" for each in pmx.jlist())


def test_open_connections_are_counted_by_instance(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    try:

        def counts() -> list[int]:
            return [int(row["conns"].partition("/")[0]) for row in rows(pmx, "web")]

        eventually(lambda: sum(counts()) == 8)
    finally:
        for each in held:
            each.close()


def test_a_crash_loses_only_what_was_accepted(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    with load(port) as clients:
        victim = pid_of(pmx, 0)
        os.kill(victim, signal.SIGKILL)
        wait_for_end(victim)
        eventually(lambda: pid_of(pmx, 0) not in (victim, 0, None))
        before = clients.seen["0"]
        eventually(lambda: clients.seen["0"] > before, "the replacement serves")
    assert sum(clients.errors().values()) <= 3, clients.seen  # one for each client
    assert "error ConnectionRefusedError" not in clients.seen


def test_a_restart_of_a_single_instance_keeps_its_clients_waiting(pmx: Pmx) -> None:
    # The server ends at once at SIGTERM, so what it had accepted is lost; but nobody is refused.
    port = start(pmx)
    with load(port) as clients:
        pmx("restart", "web")
        clients.more(20)
    assert "error ConnectionRefusedError" not in clients.seen
    assert sum(clients.errors().values()) <= 3, clients.seen


def test_what_waits_at_a_dead_worker_is_served_by_its_replacement(pmx: Pmx) -> None:
    port = start(pmx)
    eventually(lambda: answers(port))
    victim = pid_of(pmx, 0)
    os.kill(victim, signal.SIGSTOP)
    waiting = []
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        waiting.append(client)
    eventually(lambda: rows(pmx, "web")[0]["queue"] == "5")
    os.kill(victim, signal.SIGKILL)
    for client in waiting:
        with client:
            client.settimeout(20)
            assert client.recv(12) == b"HTTP/1.0 200"


def test_stop_closes_the_port_and_start_opens_it_again(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    pmx("stop", "web")
    with pytest.raises(ConnectionRefusedError):
        ask(port)
    with socket.create_server(("127.0.0.1", port)):
        pass  # and anybody may have it
    pmx("start", "web")
    serving(port, {"0", "1"})


def test_one_instance_is_stopped_without_a_loss(pmx: Pmx) -> None:
    port = start(pmx, "-i", "3")
    serving(port, {"0", "1", "2"})
    victim = next(each["pm_id"] for each in pmx.jlist() if each["pm2_env"]["NODE_APP_INSTANCE"] == 1)
    with load(port) as clients:
        pmx("stop", str(victim))
        clients.more(50)
    assert "error ConnectionRefusedError" not in clients.seen
    with load(port) as clients:
        clients.more(100)
    assert not clients.errors() and "1" not in clients.seen
    pmx("start", str(victim))
    serving(port, {"0", "1", "2"})


def test_scaling_up_and_down_under_load(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    with load(port) as clients:
        pmx("scale", "web", "+2")
        eventually(lambda: {"2", "3"} <= clients.seen.keys())
        pmx("scale", "web", "1")
        clients.more(50)
    # The server has no handler for SIGTERM, so a request that it has in hand may be lost; none is refused.
    assert "error ConnectionRefusedError" not in clients.seen
    assert sum(clients.errors().values()) <= 3, clients.seen
    assert set(serving(port, {"0"})) == {"0"}


def test_the_daemon_dies_and_no_client_notices(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    with load(port) as clients:
        for _ in range(3):
            _, daemon = pmx.keeper_and_daemon()
            os.kill(daemon, signal.SIGKILL)
            wait_for_end(daemon)
            clients.more(30)
    assert not clients.errors()
    assert {row["port"] for row in rows(pmx, "web")} == {f"127.0.0.1:{port}"}
    with load(port) as clients:
        os.kill(pid_of(pmx, 1), signal.SIGKILL)
        clients.more(30)
    assert sum(clients.errors().values()) <= 3
    serving(port, {"0", "1"})


def test_a_worker_that_crashes_while_there_is_no_daemon_is_steered_away_from(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    victim = pid_of(pmx, 0)
    _, daemon = pmx.keeper_and_daemon()
    os.kill(daemon, signal.SIGSTOP)
    try:
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{victim}").exists())
        assert {ask(port) for _ in range(20)} == {"1"}
    finally:
        os.kill(daemon, signal.SIGCONT)
    serving(port, {"0", "1"})


def test_a_port_that_somebody_else_has_is_in_use_as_ever(pmx: Pmx) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        try_to_start(pmx, "web.py", port)
        eventually(lambda: "Address already in use" in pmx.log("web-error-0.log"))


def test_two_programs_cannot_have_one_port(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    try_to_start(pmx, "other.py", port)
    eventually(lambda: "Address already in use" in pmx.log("other-error-2.log"))
    serving(port, {"0", "1"})


@pytest.mark.parametrize(
    ("options", "mode"),
    [((), "fork"), (("-i", "1"), "cluster"), (("--share",), "cluster"), (("-i", "1", "--no-share"), "fork")],
)
def test_a_port_is_shared_when_instances_are_given_or_it_is_asked_for(
    pmx: Pmx, options: tuple[str, ...], mode: str
) -> None:
    port = free_port()
    env = {**pmx.env, "PORT": str(port)}
    pmx("start", write(pmx, "web.py", SERVER), *options, env=env)
    eventually(lambda: answers(port))
    assert [row["mode"] for row in rows(pmx, "web")] == [mode]
    filtered = "Seccomp:\t2" in Path(f"/proc/{pid_of(pmx, 0)}/status").read_text()
    assert filtered == (mode == "cluster" or _filtered_anyway())


def _filtered_anyway() -> bool:
    return "Seccomp:\t2" in Path("/proc/self/status").read_text()


def test_the_same_client_comes_to_the_same_instance(pmx: Pmx) -> None:
    port = start(pmx, "-i", "3", "--balance", "ip")
    eventually(lambda: "0" in {row["queue"] for row in rows(pmx, "web")})
    eventually(lambda: all(row.get("port", "-") != "-" for row in rows(pmx, "web")))
    assert len({ask(port) for _ in range(30)}) == 1


def test_weights_say_who_gets_how_much(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2", "--weights", "1,9")
    serving(port, {"0", "1"})
    seen = Counter(ask(port) for _ in range(200))
    assert seen["1"] > 3 * seen["0"] > 0, seen  # one in ten; that it is a quarter happens once in 10^9


def test_least_conn_fills_up_who_has_least(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2", "--balance", "least_conn")
    serving(port, {"0", "1"})
    held: list[socket.socket] = []

    def counts() -> list[int]:
        return [int(row["conns"].partition("/")[0]) for row in rows(pmx, "web")]

    try:
        for size in (10, 20, 30):
            while len(held) < size:
                held.append(socket.create_connection(("127.0.0.1", port)))
            eventually(lambda size=size: sum(counts()) == size)  # type: ignore[misc]  # and the daemon has looked, too
        assert min(counts()) >= 8, counts()
    finally:
        for each in held:
            each.close()


def test_a_declared_socket_is_open_before_the_program_and_is_passed_on(pmx: Pmx) -> None:
    port = free_port()
    text = (
        "import os, socket, sys\n"
        "assert os.environ['LISTEN_PID'] == str(os.getpid()) and os.environ['LISTEN_FDS'] == '2'\n"
        "assert os.environ['LISTEN_FDNAMES'] == 'http:side', os.environ['LISTEN_FDNAMES']\n"
        "server = socket.socket(fileno=int(sys.argv[1]))\n"
        "while True:\n"
        "    client, _ = server.accept()\n"
        "    client.recv(1000)\n"
        "    client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + os.environ['PMX_INSTANCE'].encode())\n"
        "    client.close()\n"
    )
    path = pmx.work / "side.sock"
    arguments = ["--listen", f"http=tcp://127.0.0.1:{port}", "--listen", f"side=unix://{path}"]
    pmx("start", write(pmx, "declared.py", text), "-i", "2", *arguments, "--", "{fd.http}")
    serving(port, {"0", "1"})
    assert path.is_socket()
    pmx("restart", "declared")
    serving(port, {"0", "1"})
    pmx("delete", "declared")
    assert not path.exists()


def test_a_declared_port_that_is_taken_fails_the_start(pmx: Pmx) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        failed = pmx("start", write(pmx, "web.py", SERVER), "--listen", url, status=5)
        assert f"cannot listen on {url}" in failed.stderr and "in use" in failed.stderr
    assert pmx.jlist() == []


@pytest.mark.node
def test_a_node_cluster_worker_knows_that_it_is_one(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2", "--node-cluster", "--shutdown-with-message", text=NODE, file="web.js")
    serving(port, {"0", "1"})
    said = pmx("logs", "web", "--nostream").stdout
    assert "worker true 1" in said and "worker true 2" in said
    pmx("stop", "web")
    assert pmx("logs", "web", "--nostream").stdout.count("told shutdown") == 2
    assert {each["pm2_env"]["exit_code"] for each in pmx.jlist()} == {0}


@pytest.mark.node
def test_what_a_node_program_sends_is_on_the_bus_and_ready_is_understood(pmx: Pmx) -> None:
    text = "setTimeout(() => process.send({hello: [1, 2]}), 300); process.send('ready'); setInterval(() => {}, 1000)"
    pmx("ping")
    with pmx.events("message.") as expect:
        pmx("start", write(pmx, "sender.js", text))
        assert expect(lambda data: data["message"] == "ready")["name"] == "sender"
        assert expect(lambda data: data["message"] != "ready")["message"] == {"hello": [1, 2]}
    assert "process.send('ready')" in pmx("describe", "sender").stdout


def test_a_program_says_that_it_is_ready_and_what_it_does(pmx: Pmx) -> None:
    text = "import pmx.app, signal\nassert pmx.app.status('warming up') and pmx.app.ready()\nsignal.pause()\n"
    pmx("start", write(pmx, "worker.py", text))
    eventually(lambda: "READY=1" in pmx("describe", "worker").stdout)
    assert "warming up" in pmx("describe", "worker").stdout


def test_a_pmx_inside_a_program_of_pmx_shares_nothing_and_says_why(pmx: Pmx) -> None:
    port = free_port()
    inner = pmx.root / "inner"
    text = (
        "import os, signal, subprocess, sys\n"
        f"os.environ['PMX_HOME'] = {str(inner)!r}\n"
        "def run(*words):\n"
        "    return subprocess.run([sys.executable, '-m', 'pmx', *words], capture_output=True, text=True)\n"
        f"print(run('start', 'web.py', '-i', '1', '--port', '{port}').stderr, flush=True)\n"
        "print(run('describe', 'web').stdout, flush=True)\n"
        "signal.sigwait({signal.SIGTERM})\n"
        "run('kill')\n"
    )
    write(pmx, "web.py", SERVER)
    pmx("start", write(pmx, "outer.py", text), "--share", "--interpreter", sys.executable)
    eventually(lambda: answers(port))
    said = eventually(lambda: log if "recent changes" in (log := pmx.log("outer-out-0.log")) else "")
    assert "EBUSY" in said and "fork" in said
    pmx("stop", "outer")


def test_each_instance_gets_its_number_and_a_variable_that_counts(pmx: Pmx) -> None:
    text = "import os, signal\nprint(os.environ['WORKER'], os.environ['BASE'], flush=True)\nsignal.pause()\n"
    options = ["--instance-var", "WORKER", "--increment-var", "BASE", "--env", "BASE=7000"]
    pmx("start", write(pmx, "counted.py", text), "-i", "3", *options)
    for number in range(3):
        eventually(lambda n=number: pmx.log(f"counted-out-{n}.log") == f"{n} {7000 + n}\n")  # type: ignore[misc]


def test_the_same_listeners_serve_after_a_new_daemon_and_are_closed_by_it(pmx: Pmx) -> None:
    port = start(pmx, "-i", "2")
    serving(port, {"0", "1"})
    _, daemon = pmx.keeper_and_daemon()
    os.kill(daemon, signal.SIGKILL)
    wait_for_end(daemon)
    pmx("delete", "web")
    with pytest.raises(ConnectionRefusedError):
        ask(port)

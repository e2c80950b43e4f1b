"""Programs of the keeper that do, one after the other, what a test says: real sockets, and no guessing when.

A puppet connects to the test and executes the Python code that it is sent. What it listens on answers every client
with the puppet's name, so a test sees who served.
"""

import errno
import itertools
import json
import os
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pmx.keeper import protocol as p
from tests.unit.keeper.stage import Daemon
from tests.unit.support import LIMIT, await_readable

PUPPET = '''
import ctypes, errno, fcntl, json, os, select, signal, struct, sys, threading
from socket import *
NAME = sys.argv[2]

def listener(port, host="127.0.0.1", backlog=5, blocking=True, *options):
    """A listening socket as a program makes it."""
    s = socket(AF_INET6 if ":" in host else AF_INET)
    s.setblocking(blocking)
    for option in options:
        s.setsockopt(*option)
    s.bind((host, port))
    s.listen(backlog)
    return s

def serve(s, name=NAME):
    """Answer all clients of `s` with our name, in a thread."""
    def loop():
        while True:
            try:
                c, _ = s.accept()
            except BlockingIOError:
                select.select([s], [], [])
                continue
            except OSError:
                return
            c.setblocking(True)
            c.sendall(name.encode())
            c.close()
    threading.Thread(target=loop, daemon=True).start()

def in_thread(call):
    """The result of `call`, made in a thread that is not the first."""
    result = []
    def run():
        try:
            result.append(call())
        except OSError as error:
            result.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]

def main():
    strings = socket(AF_UNIX)
    strings.connect(sys.argv[1])
    lines = strings.makefile("rw")
    print(NAME, os.getpid(), file=lines, flush=True)
    for line in lines:
        code = json.loads(line)
        try:
            try:
                what = compile(code, "said", "eval")
            except SyntaxError:
                what = compile(code, "said", "exec")
            answer = {"is": eval(what, globals())}
        except OSError as error:
            answer = {"errno": error.errno or -1, "text": str(error)}
        except Exception as error:
            answer = {"bug": repr(error)}
        print(json.dumps(answer, default=repr), file=lines, flush=True)
main()
'''

PYTHON = "/usr/bin/python3"
"""One that everybody may execute."""

_numbers = itertools.count()


class Puppet:
    """One run of such a program. Calling it has it execute code; OSError comes back as such."""

    def __init__(self, door: socket.socket) -> None:
        await_readable(door.fileno())
        self._strings, _ = door.accept()
        self._strings.settimeout(LIMIT)
        self._lines = self._strings.makefile("rw")
        name, pid = self._lines.readline().split()
        self.name = name
        self.pid = int(pid)

    def __call__(self, code: str) -> Any:
        self.tell(code)
        return self.answer()

    def tell(self, code: str) -> None:
        """Have it begin; `answer` waits for the result."""
        print(json.dumps(code), file=self._lines, flush=True)

    def answer(self) -> Any:
        answer = json.loads(self._lines.readline())
        assert "bug" not in answer, answer
        if "errno" in answer:
            raise OSError(answer["errno"], answer["text"])
        return answer["is"]

    def hold(self) -> None:
        """Stop it, with all its threads (proc(5): state T)."""
        os.kill(self.pid, signal.SIGSTOP)
        for task in os.listdir(f"/proc/{self.pid}/task"):
            while Path(f"/proc/{self.pid}/task/{task}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                os.sched_yield()

    def close(self) -> None:
        self._lines.close()
        self._strings.close()


class Puppets:
    """Starts them and, at the end, lets go of them."""

    def __init__(self, daemon: Daemon, directory: str, python: str = sys.executable) -> None:
        self.daemon = daemon
        self._python = python
        self._path = f"{directory}/strings"
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self._path)
        os.chmod(self._path, 0o777)
        self._door.listen()
        self._all: list[Puppet] = []

    def order(self, slot: int = 0, **more: Any) -> p.Spawn:
        """The order for the next one: key and slot are the same number unless told otherwise."""
        key = more.pop("key", str(slot))
        python = PYTHON if "uid" in more else self._python
        name = f"w{key}.{next(_numbers)}"
        argv = [python, "-I", "-S", "-c", PUPPET, self._path, name]
        env = {"PATH": os.environ["PATH"]}
        return p.Spawn(key, 1, argv, env, "/", "", "", group="app", slot=slot, trap=True)._replace(**more)

    def start(self, slot: int = 0, **more: Any) -> Puppet:
        order = self.order(slot, **more)
        self.daemon.say(order)
        made = Puppet(self._door)
        self._all.append(made)
        assert self.daemon.find(p.Spawned, order.key).run == order.run
        return made

    def server(self, port: int, slot: int = 0, host: str = "127.0.0.1", **more: Any) -> Puppet:
        """One that serves."""
        made = self.start(slot, **more)
        made(f"s = listener({port}, {host!r}); serve(s)")
        return made

    def kill(self, puppet: Puppet, key: str = "0") -> p.Exited:
        """kill -9, and what the keeper says of it."""
        os.kill(puppet.pid, 9)
        return self.daemon.find(p.Exited, key)

    def close(self) -> None:
        for each in self._all:
            each.close()
        self._door.close()


def free_port() -> int:
    """A port that nobody has, of those that the kernel does not give away by itself (32768 and up)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET6) as probe:
            try:
                probe.bind(("::", port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise
            return port


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=LIMIT)


def answer(client: socket.socket) -> str:
    """What the server says until it closes; the client is closed."""
    with client:
        data = b""
        while chunk := client.recv(100):
            data += chunk
    return data.decode()


def served(port: int, count: int = 40, host: str = "127.0.0.1") -> Counter[str]:
    """Who answers `count` clients, one after the other."""
    return Counter(answer(connect(port, host)) for _ in range(count))


@contextmanager
def waiting(port: int, count: int, host: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """So many connections that wait in the queue of a listener."""
    clients = [connect(port, host) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()

"""A load client in a process of its own: python -m tests.matrix.load --port PORT [--host H] [--clients N] …

Each client is a thread that sends one request after the other, so at most N are in flight, and stops by itself after
--requests of them together or --seconds. A line "count" on standard input is answered by a line of JSON, the report so
far; "stop", the end of the input and SIGTERM end the load, and the last line of output is the report of all of it:

    {"answered": 812, "pids": {"4711": 400, "4712": 412}, "failures": {"reset": 1}, "first": "reset: …"}

A failure is refused, reset, eof (closed without a whole answer), timeout, status (not 200) or garbage (no answer of
ours). A request that failed is not tried again.
"""

import argparse
import http.client
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter

ANSWER = re.compile(rb"pid=(\d+)\n")
TIMEOUT = 10.0
"""Seconds for each step of a request: to connect, and for each piece of the answer."""


class Bad(Exception):
    """An answer that is none; the class of the failure."""


def failure(error: Exception) -> str:
    """The class of what went wrong with one request."""
    match error:
        case Bad():
            return str(error)
        case ConnectionRefusedError():
            return "refused"
        case http.client.RemoteDisconnected() | http.client.IncompleteRead():
            return "eof"  # the first is a ConnectionResetError, too
        case ConnectionResetError() | BrokenPipeError():
            return "reset"
        case TimeoutError():
            return "timeout"
    return "garbage"


class Load:
    """What all clients have seen together."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.deadline = time.monotonic() + options.seconds
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.begun = 0
        self.pids: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.first = ""

    def begin(self) -> bool:
        """Whether one more request may be sent."""
        with self.lock:
            wanted = self.options.requests
            self.begun += 1
            enough = (wanted and self.begun > wanted) or time.monotonic() > self.deadline
        return not (enough or self.stopping.is_set())

    def client(self) -> None:
        connection = self._connection()
        while self.begin():
            try:
                pid = ask(connection, self.options.keep_alive)
            except (OSError, http.client.HTTPException, Bad) as error:
                connection.close()
                with self.lock:
                    kind = failure(error)
                    self.failures[kind] += 1
                    self.first = self.first or f"{kind}: {error!r}"
            else:
                with self.lock:
                    self.pids[pid] += 1
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.options.host, self.options.port, timeout=TIMEOUT)

    def report(self) -> str:
        with self.lock:
            said = {"answered": self.pids.total(), "pids": self.pids, "failures": self.failures, "first": self.first}
            return json.dumps(said)


def ask(connection: http.client.HTTPConnection, keep_alive: bool) -> int:
    """The pid that answers one request. The connection opens itself when it is not open."""
    connection.request("GET", "/", headers={} if keep_alive else {"Connection": "close"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise Bad("status")
    found = ANSWER.fullmatch(body)
    if not found:
        raise Bad("garbage")
    if not keep_alive:
        connection.close()  # a server may leave it open all the same
    return int(found[1])


def orders(load: Load) -> None:
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        print(load.report(), flush=True)
    load.stopping.set()


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a server of the matrix, again and again.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", choices=("127.0.0.1", "::1"))
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=0, help="0: until told to stop")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--keep-alive", action="store_true", help="all requests of a client over one connection")
    load = Load(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: load.stopping.set())
    threading.Thread(target=orders, args=[load], daemon=True).start()
    clients = [threading.Thread(target=load.client) for _ in range(load.options.clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(load.report(), flush=True)
    os._exit(0)  # the thread that reads standard input may be in the middle of it


if __name__ == "__main__":
    main()

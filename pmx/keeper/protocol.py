"""What daemon and keeper say to each other, over one stream socket pair.

A frame is ``!IB`` (length of the body, number of descriptors that belong to it), then the body: a JSON object whose
``kind`` names the message. Descriptors travel by SCM_RIGHTS with the first byte of their frame, so they are there
before it is complete (unix(7): the kernel never merges data across a message with descriptors).

Versions, newest last; they only grow, and a reader ignores keys and kinds that it does not know:

    1   hello spawned failed exited gone descriptor stopping | spawn signal acknowledge open drop ready quit
    2   listening unshared released refused | steer release listen; and the later fields of hello, spawned and spawn
"""

import json
import os
import struct
from typing import NamedTuple

VERSION = 2

_HEAD = struct.Struct("!IB")
MAX_BODY = 16 * 1024 * 1024
"""Bytes. An environment is at most a few MB (execve(2): ARG_MAX is a quarter of the stack limit)."""
MAX_FDS = 253
"""SCM_MAX_FD of the kernel."""


class ProtocolError(Exception):
    """The other side sent something that is no frame."""


# ── daemon to keeper ─────────────────────────────────────────────────────────────────────────────────────────────


class Spawn(NamedTuple):
    """Start a program. `stdout` and `stderr` name log pipes, or are empty for /dev/null; -1 leaves the keeper's own.

    `marker` is an entry of `env` (``NAME=value``) by which descendants are known even when they left the group and
    their parent died. `tree` false means that only the main process counts, and descendants are left alone.

    `group` names the application whose ports this run shares, and `slot` its listener on each of them; empty: its
    bind(2) is its own. `sockets` are declared, [name, url], and passed as descriptors 3 and up (sd_listen_fds(3)).
    With `trap` its bind(2) and listen(2) are seen, without only declared sockets and what Listen asks for are shared.
    `ports` are granted though they want privilege (below net.ipv4.ip_unprivileged_port_start). `channel` gives it one
    end of a socket pair as NODE_CHANNEL_FD; the other is kept as ``ipc:KEY:RUN``. `notify` gives it NOTIFY_SOCKET,
    whose socket is kept as ``notify:KEY``.
    """

    key: str
    run: int
    argv: list[str]
    env: dict[str, str]
    cwd: str
    stdout: str
    stderr: str
    umask: int = -1
    uid: int = -1
    gid: int = -1
    groups: list[int] | None = None
    limits: list[tuple[str, int, int]] | None = None
    marker: str = ""
    tree: bool = True
    group: str = ""
    slot: int = 0
    sockets: list[tuple[str, str]] | None = None
    ports: list[int] | None = None
    trap: bool = False
    channel: bool = False
    notify: bool = False


class Signal(NamedTuple):
    """Send a signal, by number. `whom` is group, strays or all (core.lifecycle.Whom)."""

    key: str
    run: int
    signal: int
    whom: str


class Acknowledge(NamedTuple):
    """The end of a run is on record with the daemon: the keeper may forget it."""

    key: str
    run: int


class Open(NamedTuple):
    """Send a named descriptor; a log pipe (``log:…``) is made if it is not there."""

    name: str


class Drop(NamedTuple):
    """Close a named descriptor."""

    name: str


class Steer(NamedTuple):
    """How new connections of `group` are spread: `balance` is random, ip or shared; `weights` are [slot, weight].

    A slot that is not named has weight 1; one of weight 0 gets none. A slot that nobody serves never gets any.
    """

    group: str
    balance: str
    weights: list[tuple[int, int]]


class Release(NamedTuple):
    """Close the listeners of one slot of `group`, or of all with slot -1; what waits in their queues is refused."""

    group: str
    slot: int = -1


class Listen(NamedTuple):
    """Make the listener for `url` in the run's slot, as its bind(2) would, and send it as ``listen:KEY:RUN:URL``.

    Refused is the answer when it cannot be had.
    """

    key: str
    run: int
    url: str


class Ready(NamedTuple):
    """The daemon serves its sockets."""


class Quit(NamedTuple):
    """The daemon is about to end for good; the keeper ends what is left, and then itself."""


# ── keeper to daemon ─────────────────────────────────────────────────────────────────────────────────────────────


class Hello(NamedTuple):
    """The first message of a connection: what the keeper holds.

    `runs` are living, [key, run, pid], with pid 0 while exec is undecided. `ends` are [key, run] of the ends that no
    daemon has acknowledged; an Exited for each follows. A Listening for each listener follows, too, with key empty
    when nobody serves it, and an Unshared for each run that shares nothing though it was to.
    """

    version: int
    pid: int
    runs: list[tuple[str, int, int]]
    ends: list[tuple[str, int]]
    descriptors: list[str]


class Spawned(NamedTuple):
    key: str
    run: int
    pid: int


class Failed(NamedTuple):
    """The program was never executed. `error` is a sentence with the errno name."""

    key: str
    run: int
    errno: int
    error: str


class Exited(NamedTuple):
    """`code` is -1 and `signal` a number when a signal ended it. `leftover`: others of its tree live on; Gone follows.

    It is sent anew to a new daemon until it is acknowledged. When the tree has gone meanwhile, leftover is false.
    """

    key: str
    run: int
    pid: int
    code: int
    signal: int
    leftover: bool


class Gone(NamedTuple):
    """What was left over of a run has ended."""

    key: str
    run: int


class Listening(NamedTuple):
    """The run called listen(2) on `url`; with `itself` false it only got it declared, which is no sign of readiness.

    `inode` is that of the listening socket.
    """

    key: str
    run: int
    group: str
    slot: int
    url: str
    inode: int
    itself: bool = True


class Unshared(NamedTuple):
    """The run was to share its ports, and `why` it has them for itself."""

    key: str
    run: int
    why: str


class Released(NamedTuple):
    """What Release named is closed."""

    group: str
    slot: int


class Refused(NamedTuple):
    """What Listen asked for cannot be had."""

    key: str
    run: int
    url: str
    errno: int


class Descriptor(NamedTuple):
    """One descriptor travels with this frame."""

    name: str


class Stopping(NamedTuple):
    """The keeper was told to end (SIGTERM): stop everything, then say Quit."""

    reason: str


Message = (
    Spawn | Signal | Acknowledge | Open | Drop | Steer | Release | Listen | Ready | Quit
    | Hello | Spawned | Failed | Exited | Gone | Listening | Unshared | Released | Refused | Descriptor | Stopping
)  # fmt: skip
_CLASSES: tuple[type[Message], ...] = Message.__args__
_KINDS = {cls.__name__.lower(): cls for cls in _CLASSES}


def encode(message: Message, fds: int = 0) -> bytes:
    """The frame of `message`, which `fds` descriptors go with."""
    data = {"kind": type(message).__name__.lower(), **message._asdict()}
    body = json.dumps(data, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if len(body) > MAX_BODY:
        raise ProtocolError(f"a message of {len(body)} bytes is too long")
    return _HEAD.pack(len(body), fds) + body


class Decoder:
    """Bytes and descriptors in, messages out. Never blocks; keeps what is incomplete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> list[tuple[Message, list[int]]]:
        """The messages that are now complete, each with its descriptors (now the caller's). Raises ProtocolError."""
        self._buffer += data
        self._fds += fds
        messages: list[tuple[Message, list[int]]] = []
        try:
            while (found := self._next()) is not None:
                message, with_it = found
                if message is not None:
                    messages.append((message, with_it))
                else:
                    for fd in with_it:
                        os.close(fd)
        except ProtocolError:
            self._fds += [fd for _, with_it in messages for fd in with_it]  # not handed out, so still to be closed
            raise
        return messages

    def pending_fds(self) -> list[int]:
        """Descriptors whose frame never came; for the caller to close at the end of the connection."""
        fds, self._fds = self._fds, []
        return fds

    def _next(self) -> tuple[Message | None, list[int]] | None:
        if len(self._buffer) < _HEAD.size:
            return None
        length, count = _HEAD.unpack_from(self._buffer)
        if length > MAX_BODY or count > len(self._fds):
            raise ProtocolError(f"a frame claims {length} bytes and {count} descriptors")
        if len(self._buffer) < _HEAD.size + length:
            return None
        body = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
        del self._buffer[: _HEAD.size + length]
        message = _decode(body)
        fds, self._fds = self._fds[:count], self._fds[count:]
        return message, fds


def _decode(body: bytes) -> Message | None:
    """The message in `body`, or None for a kind that a newer side has and we do not."""
    try:
        data = json.loads(body.decode("utf-8", "surrogatepass"))
        cls = _KINDS.get(data.pop("kind"))
        if cls is None:
            return None
        return cls(**{key: value for key, value in data.items() if key in cls._fields})
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"a frame holds no message: {error}") from None

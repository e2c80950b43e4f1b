"""Bytes that somebody has sent once must be understood for ever; what is sent today is written down here too.

A new message, or a new field of one, gets a new file. A file that exists is never changed.
"""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from pmx.keeper import protocol as p
from pmx.wire import codec, messages as w

FRAMES = Path(__file__).parent / "frames"

KEEPER: dict[str, p.Message] = {
    "v1-keeper-spawn": p.Spawn(
        "0", 1, ["/bin/true", "é"], {"PATH": "/bin", "PMX_RUN": "0.1@/h"}, "/", "log:0:out", "",
        18, 1, 2, [2, 3], [("nofile", 64, 128)], "a=b", True,
    ),
    "v1-keeper-signal": p.Signal("0", 1, 15, "group"),
    "v1-keeper-acknowledge": p.Acknowledge("0", 1),
    "v1-keeper-open": p.Open("log:0:out"),
    "v1-keeper-drop": p.Drop("log:0:out"),
    "v1-keeper-ready": p.Ready(),
    "v1-keeper-quit": p.Quit(),
    "v1-keeper-hello": p.Hello(1, 42, [("0", 1, 43)], [("1", 7)], ["log:0:out"]),
    "v1-keeper-spawned": p.Spawned("0", 1, 43),
    "v1-keeper-failed": p.Failed("0", 1, 2, "cannot run /nowhere: no such file (ENOENT)"),
    "v1-keeper-exited": p.Exited("0", 1, 43, -1, 9, True),
    "v1-keeper-gone": p.Gone("0", 1),
    "v1-keeper-descriptor": p.Descriptor("log:0:out"),
    "v1-keeper-stopping": p.Stopping("SIGTERM"),
    "v2-keeper-spawn": p.Spawn(
        "0", 1, ["/bin/true", "é"], {"PATH": "/bin", "PMX_RUN": "0.1@/h"}, "/", "log:0:out", "",
        18, 1, 2, [2, 3], [("nofile", 64, 128)], "a=b", True,
        "web", 2, [("http", "tcp://0.0.0.0:80"), ("admin", "unix:///run/x")], [80], True, True, True,
    ),
    "v2-keeper-signal": p.Signal("0", 1, 15, "group"),
    "v2-keeper-acknowledge": p.Acknowledge("0", 1),
    "v2-keeper-open": p.Open("log:0:out"),
    "v2-keeper-drop": p.Drop("log:0:out"),
    "v2-keeper-steer": p.Steer("web", "ip", [(0, 1), (1, 0)]),
    "v2-keeper-release": p.Release("web", 2),
    "v2-keeper-listen": p.Listen("0", 1, "tcp://[::]:80"),
    "v2-keeper-ready": p.Ready(),
    "v2-keeper-quit": p.Quit(),
    "v2-keeper-hello": p.Hello(2, 42, [("0", 1, 43)], [("1", 7)], ["ipc:0:1", "log:0:out", "notify:0"]),
    "v2-keeper-spawned": p.Spawned("0", 1, 43),
    "v2-keeper-failed": p.Failed("0", 1, 2, "cannot run /nowhere: no such file (ENOENT)"),
    "v2-keeper-exited": p.Exited("0", 1, 43, -1, 9, True),
    "v2-keeper-gone": p.Gone("0", 1),
    "v2-keeper-listening": p.Listening("0", 1, "web", 2, "tcp://[::]:80", 12345, False),
    "v2-keeper-unshared": p.Unshared("0", 1, "another manager answers for its ports (EBUSY)"),
    "v2-keeper-released": p.Released("web", 2),
    "v2-keeper-refused": p.Refused("0", 1, "tcp://[::]:80", 98),
    "v2-keeper-descriptor": p.Descriptor("log:0:out"),
    "v2-keeper-stopping": p.Stopping("SIGTERM"),
}  # fmt: skip

WIRE: dict[str, w.Request | w.Answer | w.Event] = {
    "v1-wire-request": w.Request("1", "stop", {"selectors": ["web"]}, 1),
    "v1-wire-reply": w.Reply("1", {"stopped": [0]}, 1),
    "v1-wire-failure": w.Failure("1", {"code": "not_found", "message": "cannot find it", "hint": "look"}, 1),
    "v1-wire-progress": w.Progress("1", "stopping 3 programs", 1),
    "v1-wire-event": w.Event(7, 1.5, "process", {"id": 0, "to": "online"}),
}


def plain(message: Any) -> object:
    """As JSON has it: tuples in lists come back as lists."""
    return type(message).__name__, json.loads(json.dumps(message))


def encode(message: w.Request | w.Answer | w.Event) -> bytes:
    match message:
        case w.Request():
            return codec.encode_request(message)
        case w.Event():
            return codec.encode_event(message)
        case w.Reply() | w.Failure() | w.Progress():
            return codec.encode_answer(message)


def decode(name: str, frame: bytes) -> Any:
    match name.rpartition("-")[2]:
        case "request":
            return codec.decode_request(frame)
        case "event":
            return codec.decode_event(frame)
        case _:
            return codec.decode_answer(frame)


def test_every_file_is_known_and_every_message_has_one() -> None:
    assert {path.stem for path in FRAMES.iterdir()} == KEEPER.keys() | WIRE.keys()
    assert {type(message) for message in KEEPER.values()} == set(get_args(p.Message))
    assert {type(message) for message in WIRE.values()} == {w.Request, w.Event, *get_args(w.Answer)}


@pytest.mark.parametrize("name", KEEPER)
def test_a_keeper_frame_is_understood(name: str) -> None:
    ((received, fds),) = p.Decoder().feed((FRAMES / f"{name}.bin").read_bytes(), [])
    assert plain(received) == plain(KEEPER[name])
    assert fds == []


@pytest.mark.parametrize("name", [name for name in KEEPER if name.startswith(f"v{p.VERSION}-keeper-")])
def test_a_keeper_message_is_sent_as_written_down(name: str) -> None:
    assert p.encode(KEEPER[name]) == (FRAMES / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", WIRE)
def test_a_wire_frame_is_understood(name: str) -> None:
    assert plain(decode(name, (FRAMES / f"{name}.bin").read_bytes())) == plain(WIRE[name])


@pytest.mark.parametrize("name", [name for name in WIRE if name.startswith(f"v{w.VERSION}-wire-")])
def test_a_wire_message_is_sent_as_written_down(name: str) -> None:
    assert encode(WIRE[name]) == (FRAMES / f"{name}.bin").read_bytes()

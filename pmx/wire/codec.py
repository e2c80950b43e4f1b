"""Messages to frames and back. A frame that is no message raises CodecError, whatever its bytes."""

import json
from typing import Any

from pmx.wire.messages import VERSION, Answer, Event, Failure, Progress, Reply, Request


class CodecError(Exception):
    """The bytes are no message of ours."""


def _dump(kind: str, data: dict[str, Any]) -> bytes:
    # surrogatepass: a file name or an environment of any bytes is text with lone surrogates in Python (PEP 383).
    return json.dumps({"kind": kind, **data}, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _load(frame: bytes) -> dict[str, Any]:
    try:
        data = json.loads(frame.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise CodecError("not a JSON object")
    return data


def _field(data: dict[str, Any], name: str, kind: type) -> Any:
    value = data.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CodecError(f"{name} is missing or not a {kind.__name__}")
    return value


def encode_request(request: Request) -> bytes:
    return _dump("request", request._asdict())


def decode_request(frame: bytes) -> Request:
    data = _load(frame)
    return Request(
        _field(data, "id", str), _field(data, "verb", str), _field(data, "args", dict), _field(data, "version", int)
    )


def encode_answer(answer: Answer) -> bytes:
    return _dump(type(answer).__name__.lower(), answer._asdict())


def decode_answer(frame: bytes) -> Answer:
    data = _load(frame)
    number = _field(data, "id", str)
    version = data.get("version", VERSION)
    match data.get("kind"):
        case "reply":
            return Reply(number, data.get("result"), version)
        case "failure":
            return Failure(number, _field(data, "error", dict), version)
        case "progress":
            return Progress(number, _field(data, "text", str), version)
        case kind:
            raise CodecError(f"an answer of the unknown kind {kind!r}")


def encode_event(event: Event) -> bytes:
    return _dump("event", {"seq": event.seq, "at": event.at, "event": event.kind, "data": event.data})


def decode_event(frame: bytes) -> Event:
    data = _load(frame)
    at = data.get("at")
    if not isinstance(at, (int, float)):
        raise CodecError("at is missing or not a number")
    return Event(_field(data, "seq", int), at, _field(data, "event", str), _field(data, "data", dict))

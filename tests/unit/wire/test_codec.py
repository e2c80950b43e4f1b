import json

import pytest

from pmx.wire.codec import (
    CodecError,
    decode_answer,
    decode_event,
    decode_request,
    encode_answer,
    encode_event,
    encode_request,
)
from pmx.wire.messages import VERSION, Answer, Event, Failure, Progress, Reply, Request

ODD = {"plain": 1, "nested": [None, True, {"ä": "\udcff"}], "": ""}


def test_a_request_survives_the_journey() -> None:
    request = Request("1", "start", ODD)
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize(
    "answer",
    [Reply("1", ODD), Reply("1", None), Reply("", []), Failure("1", {"code": "usage"}), Progress("1", "half\ndone")],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answer_survives_the_journey(answer: Answer) -> None:
    received = decode_answer(encode_answer(answer))
    assert type(received) is type(answer)
    assert received == answer


@pytest.mark.parametrize("at", [0, 1.5])
def test_an_event_survives_the_journey(at: float) -> None:
    event = Event(7, at, "process", ODD)
    assert decode_event(encode_event(event)) == event


def test_a_frame_is_one_line_of_json_that_names_its_kind() -> None:
    for frame, kind in (
        (encode_request(Request("1", "ls", {})), "request"),
        (encode_answer(Reply("1", 2)), "reply"),
        (encode_answer(Failure("1", {})), "failure"),
        (encode_answer(Progress("1", "")), "progress"),
        (encode_event(Event(1, 0.0, "log", {})), "event"),
    ):
        assert json.loads(frame)["kind"] == kind
        assert b"\n" not in frame


@pytest.mark.parametrize("frame", [b"", b"{", b"\xff\xff", b"[" * 100_000, b"nan", b"1" * 5000])
def test_what_is_no_json_is_refused(frame: bytes) -> None:
    for decode in (decode_request, decode_answer, decode_event):
        with pytest.raises(CodecError):
            decode(frame)


@pytest.mark.parametrize("frame", [b"null", b"[]", b'"x"', b"3"])
def test_what_is_no_object_is_refused(frame: bytes) -> None:
    for decode in (decode_request, decode_answer, decode_event):
        with pytest.raises(CodecError, match="not a JSON object"):
            decode(frame)


REQUEST = {"kind": "request", "id": "1", "verb": "ls", "args": {}, "version": 1}
EVENT = {"kind": "event", "seq": 1, "at": 1.0, "event": "log", "data": {}}


@pytest.mark.parametrize("name", ["id", "verb", "args", "version"])
@pytest.mark.parametrize("value", [None, [], 1.5, True])
def test_a_request_with_a_wrong_field_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(CodecError, match=name):
        decode_request(json.dumps({**REQUEST, name: value}).encode())
    with pytest.raises(CodecError, match=name):
        decode_request(json.dumps({key: each for key, each in REQUEST.items() if key != name}).encode())


@pytest.mark.parametrize("name", ["seq", "at", "event", "data"])
@pytest.mark.parametrize("value", [None, []])
def test_an_event_with_a_wrong_field_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(CodecError, match=name):
        decode_event(json.dumps({**EVENT, name: value}).encode())


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "reply"},
        {"kind": "failure", "id": "1"},
        {"kind": "failure", "id": "1", "error": "text"},
        {"kind": "progress", "id": "1", "text": 1},
        {"kind": "hologram", "id": "1"},
        {"kind": ["reply"], "id": "1"},
        {"id": "1"},
    ],
    ids=repr,
)
def test_an_answer_that_is_none_is_refused(data: object) -> None:
    with pytest.raises(CodecError):
        decode_answer(json.dumps(data).encode())


def test_what_a_newer_side_adds_is_ignored() -> None:
    assert decode_request(json.dumps({**REQUEST, "priority": 9}).encode()) == Request("1", "ls", {})
    assert decode_event(json.dumps({**EVENT, "more": 9}).encode()) == Event(1, 1.0, "log", {})
    assert decode_answer(b'{"kind":"reply","id":"1","result":2,"took":3}') == Reply("1", 2)


def test_an_answer_without_a_version_is_of_ours() -> None:
    assert decode_answer(b'{"kind":"reply","id":"1"}') == Reply("1", None, VERSION)
    assert decode_answer(b'{"kind":"reply","id":"1","version":9}') == Reply("1", None, 9)

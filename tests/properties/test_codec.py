from hypothesis import given, strategies as st

from pmx.wire.codec import (
    CodecError,
    decode_answer,
    decode_event,
    decode_request,
    encode_answer,
    encode_event,
    encode_request,
)
from pmx.wire.messages import Answer, Event, Failure, Progress, Reply, Request

# Any text but half of a pair: a file name of any bytes is text with lone low surrogates (PEP 383).
text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\udc80", "\udcff"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(text, values, max_size=5)


@given(st.builds(Request, text, text, objects, st.integers()))
def test_any_request_survives(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(
    st.builds(Reply, text, values, st.integers())
    | st.builds(Failure, text, st.dictionaries(text, text, max_size=4), st.integers())
    | st.builds(Progress, text, text, st.integers())
)
def test_any_answer_survives(answer: Answer) -> None:
    received = decode_answer(encode_answer(answer))
    assert received == answer
    assert type(received) is type(answer)


@given(st.builds(Event, st.integers(), st.floats(allow_nan=False), text, objects))
def test_any_event_survives(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@given(st.binary(max_size=200) | values.map(lambda value: repr(value).encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_message_or_a_codec_error(frame: bytes) -> None:
    for decode in (decode_request, decode_answer, decode_event):
        try:
            decode(frame)
        except CodecError as error:
            assert str(error)


@given(
    st.sampled_from(["kind", "id", "verb", "args", "version", "seq", "at", "event", "data", "error", "text", "result"]),
    values,
    st.sampled_from(["request", "reply", "failure", "progress", "event"]),
)
def test_any_value_in_any_field_is_a_message_or_a_codec_error(name: str, value: object, kind: str) -> None:
    import json

    whole = {"kind": kind, "id": "1", "verb": "ls", "args": {}, "version": 1, "seq": 1, "at": 1.5, "event": "log"}
    frame = json.dumps({**whole, "data": {}, "error": {}, "text": "", name: value}).encode()
    for decode in (decode_request, decode_answer, decode_event):
        try:
            decode(frame)
        except CodecError as error:
            assert str(error)

import json
import os
import struct
from itertools import pairwise
from typing import Any, get_args, get_type_hints

from hypothesis import given, strategies as st

from pmx.keeper import protocol as p

text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\udc80", "\udcff"]), max_size=12)
numbers = st.integers(-(2**31), 2**31)
FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    int: numbers,
    bool: st.booleans(),
    list[str]: st.lists(text, max_size=4),
    dict[str, str]: st.dictionaries(text, text, max_size=4),
    list[int] | None: st.none() | st.lists(numbers, max_size=3),
    list[tuple[str, int, int]] | None: st.none() | st.lists(st.tuples(text, numbers, numbers).map(list), max_size=2),
    list[tuple[str, int, int]]: st.lists(st.tuples(text, numbers, numbers).map(list), max_size=3),
    list[tuple[str, str]] | None: st.none() | st.lists(st.tuples(text, text).map(list), max_size=2),
    list[tuple[int, int]]: st.lists(st.tuples(numbers, numbers).map(list), max_size=3),
    list[tuple[str, int]]: st.lists(st.tuples(text, numbers).map(list), max_size=3),
}  # lists in place of inner tuples, as JSON gives them back


def of(cls: type[p.Message]) -> st.SearchStrategy[p.Message]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{name: FIELDS[hints[name]] for name in cls._fields})


messages = st.one_of([of(cls) for cls in get_args(p.Message)])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(messages, max_size=6), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_split_of_any_messages_gives_the_same_messages(sent: list[p.Message], cuts: list[int]) -> None:
    decoder, received = p.Decoder(), []
    for piece in pieces(b"".join(map(p.encode, sent)), cuts):
        received += decoder.feed(piece, [])
    assert received == [(message, []) for message in sent]
    assert [type(message) for message, _ in received] == [type(message) for message in sent]


@given(st.lists(st.tuples(messages, st.integers(0, 3)), max_size=6))
def test_each_message_gets_its_own_descriptors(sent: list[tuple[p.Message, int]]) -> None:
    """Numbers serve as well as descriptors: the decoder hands them on, and closes only those of unknown kinds."""
    decoder, number = p.Decoder(), 10_000
    for message, count in sent:
        fds = list(range(number, number + count))
        number += count
        data = p.encode(message, count)
        assert decoder.feed(data[:3], fds) == []  # with the first byte of their frame
        assert decoder.feed(data[3:], []) == [(message, fds)]
    assert decoder.pending_fds() == []


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


frames = st.builds(
    lambda body, count: struct.pack("!IB", len(body), count) + body,
    st.binary(max_size=40)
    | st.dictionaries(st.sampled_from(["kind", "key", "run", "name"]), messages.map(lambda m: type(m).__name__.lower()))
    .map(json.dumps)
    .map(str.encode),
    st.integers(0, 2),
)


@given(st.binary(max_size=100) | st.lists(frames, max_size=4).map(b"".join), st.integers(0, 4))
def test_any_bytes_are_messages_or_a_protocol_error_and_no_descriptor_is_lost(data: bytes, count: int) -> None:
    before = open_fds()
    decoder = p.Decoder()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    try:
        ours = [fd for _, with_it in decoder.feed(data, fds) for fd in with_it]
    except p.ProtocolError as error:
        assert str(error)
        ours = []
    for fd in [*ours, *decoder.pending_fds()]:
        os.close(fd)
    assert open_fds() == before

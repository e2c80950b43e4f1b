"""However the bytes come, and however often the daemon dies, the messages are the same."""

import asyncio
import json
import os
import socket
from itertools import pairwise

from hypothesis import given, settings, strategies as st

from pmx.core import nodeipc
from pmx.daemon.channel import Channel

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
messages = json_values.filter(lambda value: not nodeipc.internal(value))


async def turn() -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


@settings(deadline=None, max_examples=150)
@given(st.lists(messages, max_size=6), st.lists(st.tuples(st.integers(0, 2000), st.booleans()), max_size=8))
def test_any_split_of_any_messages_gives_the_same_messages(sent: list[object], cuts: list[tuple[int, bool]]) -> None:
    """A cut is a place, and whether the daemon dies there."""
    data = b"".join(json.dumps(message, ensure_ascii=False).encode() + b"\n" for message in sent)
    dies = {place % (len(data) + 1): death for place, death in cuts}
    heard: list[object] = []
    ended: list[bool] = []

    async def main() -> None:
        kept, program = socket.socketpair()
        with kept, program:
            channel = Channel(os.dup(kept.fileno()), heard.append, lambda: ended.append(True))
            for start, stop in pairwise([0, *sorted(dies), len(data)]):
                if dies.get(start):
                    channel.close()
                    channel = Channel(os.dup(kept.fileno()), heard.append, lambda: ended.append(True))
                program.sendall(data[start:stop])
                await turn()
            program.close()
            while not ended:
                await turn()
            channel.close()

    before = sorted(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert heard == sent
    assert [type(message) for message in heard] == [type(message) for message in sent]
    assert ended == [True]
    assert sorted(os.listdir("/proc/self/fd")) == before


@given(
    st.dictionaries(st.sampled_from(["seq", "address", "port", "addressType", "flags", "fd", "data"]), json_values)
    | st.fixed_dictionaries(
        {
            "seq": st.integers(0, 9),
            "address": st.none() | st.sampled_from(["::1", "10.0.0.1", "/run/s", "/a\0b", "fe80::1%1", "x"]),
            "port": st.integers(-2, 65536) | st.none(),
            "addressType": st.sampled_from([4, 6, -1, None, "udp4", "udp6"]),
        }
    )
)
def test_whatever_a_worker_asks_for_is_a_url_or_nothing(message: dict[str, object]) -> None:
    found = nodeipc.query(message)
    for url in nodeipc.urls(found) if found is not None else ():
        assert url.startswith(("unix:///", "tcp://"))
        assert "\0" not in url
        assert url.startswith("unix:") or 0 <= int(url.rpartition(":")[2]) <= 65535

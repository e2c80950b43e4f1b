import pytest

from pmx.core.nodeipc import Query, internal, query, urls

TCP = {"cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 4, "index": 0, "address": None, "port": 80, "addressType": 4}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"cmd": "NODE_CLUSTER"}, True),
        ({"cmd": "NODE_HANDLE_ACK"}, True),
        ({"cmd": "NODE_"}, False),  # as node: isInternal
        ({"cmd": "node_cluster"}, False),
        ({"cmd": 5}, False),
        ({}, False),
        ("NODE_CLUSTER", False),
        (None, False),
        ([], False),
    ],
)
def test_what_node_keeps_for_itself(message: object, expected: bool) -> None:
    assert internal(message) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("tcp://[::]:80", "tcp://0.0.0.0:80")),
        ({"address": "127.0.0.1"}, ("tcp://127.0.0.1:80",)),
        ({"address": "::1", "addressType": 6}, ("tcp://[::1]:80",)),
        ({"address": "/run/x.sock", "port": -1, "addressType": -1}, ("unix:///run/x.sock",)),
        ({"address": "/work/\0abstract", "port": -1, "addressType": -1}, ()),
        ({"address": "relative", "port": -1, "addressType": -1}, ()),
        ({"address": "fe80::1%eth0", "addressType": 6}, ()),
        ({"address": "0.0.0.0", "addressType": "udp4", "fd": -1}, ()),
        ({"port": None, "addressType": None, "fd": 3}, ()),
        ({"fd": 3}, ()),
    ],
)
def test_the_listener_that_is_meant(change: dict[str, object], expected: tuple[str, ...]) -> None:
    found = query({**TCP, **change})
    assert found is not None
    assert urls(found) == expected


def test_what_else_is_in_a_query() -> None:
    found = query({**TCP, "flags": 1, "data": {"ticketKeys": "00"}})
    assert found == Query(4, "", 80, 4, flags=1, data={"ticketKeys": "00"})
    assert found.v6only
    assert not found.udp


@pytest.mark.parametrize(
    "change",
    [{"seq": "4"}, {"seq": None}, {"port": "80"}, {"port": 65536}, {"port": -2}, {"address": 7}, {"addressType": []}],
)
def test_what_node_would_not_say_is_no_query(change: dict[str, object]) -> None:
    assert query({**TCP, **change}) is None

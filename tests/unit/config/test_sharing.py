"""Ports, sockets and what is node: what the options of clusters mean, and what they come to."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pmx.config import sharing
from pmx.config.launch import Options, named, spec_of
from pmx.config.program import Program
from pmx.core.spec import AppSpec, NodePolicy, SharePolicy, from_wire, to_wire
from pmx.errors import UsageProblem

Start = Callable[..., AppSpec]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """spec_of in a directory with a binary, a node program and what runs it."""
    for name in ("app", "node", "bun", "env"):
        (tmp_path / name).write_bytes(b"\x7fELF\0")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "web.js").touch()

    def start(target: str = "./app", *args: str, environ: dict[str, str] | None = None, **options: Any) -> AppSpec:
        environment = {"PATH": str(tmp_path), **(environ or {})}
        return spec_of(target, Options(**options), args, str(tmp_path), environment)

    return start


# --- sockets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        ("tcp://0.0.0.0:8000", "tcp-8000", "tcp://0.0.0.0:8000"),
        ("tcp://:8000", "tcp-8000", "tcp://0.0.0.0:8000"),
        ("tcp://*:8000", "tcp-8000", "tcp://0.0.0.0:8000"),
        (":8000", "tcp-8000", "tcp://0.0.0.0:8000"),
        ("8000", "tcp-8000", "tcp://0.0.0.0:8000"),
        ("*:1", "tcp-1", "tcp://0.0.0.0:1"),
        ("127.0.0.1:65535", "tcp-65535", "tcp://127.0.0.1:65535"),
        ("localhost:08000", "tcp-8000", "tcp://127.0.0.1:8000"),
        ("tcp://[::]:8000", "tcp-8000", "tcp://[::]:8000"),
        ("[0:0:0:0:0:0:0:1]:8000", "tcp-8000", "tcp://[::1]:8000"),
        ("http=:8000", "http", "tcp://0.0.0.0:8000"),
        ("a.b_c-1=tcp://[::1]:80", "a.b_c-1", "tcp://[::1]:80"),
        ("unix:///run/web.sock", "web", "unix:///run/web.sock"),
        ("unix:/run/web.sock", "web", "unix:///run/web.sock"),
        ("unix:////run//web", "web", "unix:///run/web"),
        ("unix:web.sock", "web", "unix:///project/web.sock"),
        ("unix:sub/../my web.sock", "my-web", "unix:///project/my web.sock"),
        ("unix:~/web.sock", "web", "unix:///home/me/web.sock"),
        ("unix:/run/a=b", "a-b", "unix:///run/a=b"),
        ("admin=unix:a=b.sock", "admin", "unix:///project/a=b.sock"),
    ],
)
def test_a_socket_is_a_name_and_a_normal_url(text: str, name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert sharing.socket_of(text, "/project") == (name, url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no address with a port"),
        ("http", "it is no address with a port"),
        ("tcp://127.0.0.1", "it is no address with a port"),
        ("tcp://127.0.0.1:", "it is no address with a port"),
        ("127.0.0.1:http", "it is no address with a port"),
        ("127.0.0.1:-1", "it is no address with a port"),
        ("127.0.0.1:80/path", "it is no address with a port"),
        ("udp://127.0.0.1:80", "it is no address with a port"),
        ("me@127.0.0.1:80", "it is no address with a port"),
        ("a b=:80", "it is no address with a port"),
        ("a:b=:80", "it is no address with a port"),
        ("=:80", "has no address"),
        (":²", "it is no address with a port"),
        ("127.0.0.1:80\n", "it is no address with a port"),
        ("http=\n:80", "it is no address with a port"),
        ("::1:80", "an IPv6 address goes in brackets"),
        ("[127.0.0.1]:80", "'127.0.0.1' is no IPv6 address"),
        ("[]:80", "'' is no IPv6 address"),
        ("no-such-host.invalid:80", "'no-such-host.invalid' has no address"),
        (f"{'a' * 64}.invalid:80", "has no address"),
        (":0", "its port must be from 1 to 65535"),
        (":65536", "its port must be from 1 to 65535"),
        ("unix:", "it names no file"),
        ("unix:/run/", "it names no file"),
        ("unix:a\0b", "it names no file"),
        ("unix://run/web.sock", "by a third slash"),
    ],
)
def test_what_is_no_socket(text: str, why: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        sharing.socket_of(text, "/project")
    assert why in caught.value.message
    assert caught.value.message.startswith("cannot listen on ")
    assert "unix:///run/app.sock" in caught.value.hint


def test_of_the_addresses_of_a_name_one_of_ipv4_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 0, 0, 0))
    four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))
    known = {"both": [six, four], "new": [six]}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, type: known[host])
    assert sharing.socket_of("both:80", "/")[1] == "tcp://10.0.0.1:80"
    assert sharing.socket_of("new:80", "/")[1] == "tcp://[fd00::1]:80"


def test_the_path_of_a_unix_socket_has_an_end() -> None:
    longest = "/" + "é" * 53  # 107 bytes
    assert sharing.socket_of(f"unix:{longest}", "/")[1] == f"unix://{longest}"
    with pytest.raises(UsageProblem, match="has 108 bytes, and the kernel takes 107"):
        sharing.socket_of(f"unix:{longest}x", "/")
    with pytest.raises(UsageProblem, match="has 108 bytes"):
        sharing.socket_of("unix:web.sock", "/" + "d" * 98)


@given(st.text(alphabet="ab1:/[]=.*-tcpunix", max_size=30))
def test_whatever_is_taken_is_normal_already(text: str) -> None:
    try:
        name, url = sharing.socket_of(text, "/project")
    except UsageProblem:
        return
    assert sharing.socket_of(sharing.named_url(name, url), "/elsewhere") == (name, url)


def test_sockets_keep_their_order_and_differ() -> None:
    found = sharing.sockets(["b=:2", "a=:1", "unix:x"], "/")
    assert found == (("b", "tcp://0.0.0.0:2"), ("a", "tcp://0.0.0.0:1"), ("x", "unix:///x"))
    with pytest.raises(UsageProblem, match=r"cannot listen on tcp://0\.0\.0\.0:80 twice"):
        sharing.sockets(["a=:80", "b=*:80"], "/")
    with pytest.raises(UsageProblem, match="cannot give two sockets the name 'tcp-80'") as caught:
        sharing.sockets([":80", "[::]:80"], "/")
    assert "other=tcp://[::]:80" in caught.value.hint


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a=b", "é", "a\n"])
def test_names_that_no_socket_can_have(name: str) -> None:
    with pytest.raises(UsageProblem, match="cannot give a socket the name"):
        sharing.named_url(name, ":80")


def test_a_place_for_a_descriptor_must_be_that_of_a_socket(start: Start) -> None:
    spec = start("./app", "--fd", "{fd.http}", "x{fd.tcp-81}y{fd.http}", "{fd}", "{other}", listen=["http=:80", ":81"])
    assert spec.command.argv[1:] == ("--fd", "{fd.http}", "x{fd.tcp-81}y{fd.http}", "{fd}", "{other}")
    with pytest.raises(UsageProblem, match=r"for \{fd.web\}: .* is declared, there are http, tcp-81$"):
        start("./app", "{fd.http}{fd.web}", listen=["http=:80", ":81"])
    with pytest.raises(UsageProblem, match=r"is declared, there is http$"):
        start("./app", "{fd.}", listen=["http=:80"])
    with pytest.raises(UsageProblem, match=r"is declared, there is none$"):
        start("./app --fd={fd.http}")


# --- sharing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, False),
        ({"instances": "1"}, True),
        ({"instances": "max"}, True),
        ({"port": 8000}, True),
        ({"listen": ["unix:x"]}, True),
        ({"listen": []}, False),
        ({"share": True}, True),
        ({"share": False}, False),
        ({"share": False, "instances": "4", "port": 8000, "listen": [":1"]}, False),
        ({"exec_mode": "cluster"}, True),
        ({"exec_mode": "cluster", "share": False}, False),
        ({"exec_mode": "fork"}, False),
        ({"exec_mode": "fork", "instances": "2"}, True),
        ({"instance_var": "N"}, False),
    ],
)
def test_when_ports_are_shared(start: Start, options: dict[str, Any], share: bool) -> None:
    assert start(**options).sharing.share is share


def test_all_of_a_policy(start: Start, tmp_path: Path) -> None:
    spec = start(port=8000, listen=[":1", "unix:x"], balance="ip", weights="3,1")
    listen = (("tcp-1", "tcp://0.0.0.0:1"), ("x", f"unix://{tmp_path}/x"))
    assert spec.sharing == SharePolicy(True, "ip", (3, 1), 8000, listen)
    assert from_wire(AppSpec, to_wire(spec)) == spec


@pytest.mark.parametrize("options", [{"balance": "ip"}, {"weights": "1,2"}, {"balance": "ip", "share": False}])
def test_nothing_is_balanced_where_nothing_is_shared(start: Start, options: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem, match="the ports are not shared"):
        start(**options)


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_ports_that_do_not_exist(start: Start, number: int) -> None:
    with pytest.raises(UsageProblem, match="it must be from 1 to 65535"):
        start(port=number)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("random", "random"),
        ("ip", "ip"),
        ("least_conn", "least_conn"),
        ("least-conn", "least_conn"),
        ("shared", "shared"),
    ],
)
def test_ways_to_balance(text: str, name: str) -> None:
    assert sharing.balance(text) == name


@pytest.mark.parametrize("text", ["", "fair", "Random", "round-robin"])
def test_ways_that_there_are_not(text: str) -> None:
    with pytest.raises(UsageProblem, match="there is no such way"):
        sharing.balance(text)


@pytest.mark.parametrize(("text", "found"), [("3,1", (3, 1)), ("0, 100", (0, 100)), ("5", (5,)), ("1 2", (1, 2))])
def test_weights(text: str, found: tuple[int, ...]) -> None:
    assert sharing.weights(text) == found


@pytest.mark.parametrize("text", ["", "101", "-1,2", "1.5", "a", "1;2", "²", "9999999999"])
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(UsageProblem, match="cannot read the weights"):
        sharing.weights(text)


def test_somebody_must_get_connections() -> None:
    with pytest.raises(UsageProblem, match="nobody would get a connection"):
        sharing.weights("0,0")


# --- variables ----------------------------------------------------------------------------------------------


def test_variables_of_instances(start: Start) -> None:
    assert (start().instance_var, start().increment_var) == ("NODE_APP_INSTANCE", "")
    spec = start(instance_var="NUMBER", increment_var="METRICS", env=["METRICS=-5"])
    assert (spec.instance_var, spec.increment_var) == ("NUMBER", "METRICS")
    assert start(increment_var="FROM_SHELL", environ={"FROM_SHELL": "7"}).increment_var == "FROM_SHELL"


@pytest.mark.parametrize("value", ["", "x", "1.5", " 1", "+1", "²", "9" * 16])
def test_what_cannot_be_counted_up(start: Start, value: str) -> None:
    with pytest.raises(UsageProblem, match="its value is no number") as caught:
        start(increment_var="COUNT", env=[f"COUNT={value}"])
    assert not value or value not in caught.value.message  # it may be a secret


def test_variables_that_cannot_be(start: Start) -> None:
    with pytest.raises(UsageProblem, match="cannot count COUNT up: it is not in the environment"):
        start(increment_var="COUNT")
    with pytest.raises(UsageProblem, match="all instances get the same"):
        start(increment_var="PORT", port=8000, env=["PORT=1"])
    assert start(increment_var="PORT", env=["PORT=1"]).increment_var == "PORT"
    for name in ("", "A=B", "A\0"):
        with pytest.raises(UsageProblem, match="as the name of a variable"):
            start(instance_var=name)
        with pytest.raises(UsageProblem, match="as the name of a variable"):
            start(increment_var=name)


# --- node ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("web.js", {}),
        ("web.js", {"interpreter": "bun"}),
        ("node web.js", {}),
        ("./node", {}),
        ("./app", {"interpreter": "node"}),
    ],
)
def test_node_and_bun_programs_get_a_channel(start: Start, target: str, options: dict[str, Any]) -> None:
    assert start(target, **options).node == NodePolicy(channel=True)


@pytest.mark.parametrize(("mode", "channel"), [(0o755, True), (0o644, True)])
@pytest.mark.parametrize("line", ["{0}/node", "{0}/node --title=x", "{0}/env node", "{0}/env -S node --title=x"])
def test_a_first_line_that_leads_to_node(start: Start, tmp_path: Path, line: str, mode: int, channel: bool) -> None:
    script = tmp_path / "tool"
    script.write_text(f"#!{line.format(tmp_path)}\n")
    script.chmod(mode)
    assert start("./tool").node.channel is channel


def test_other_programs_get_none(start: Start, tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(tmp_path / "app")
    (tmp_path / "node.py").touch()
    (tmp_path / "tool").write_text(f"#!{tmp_path}/app node\n")
    (tmp_path / "tool").chmod(0o755)
    for target in ("./app", "./tool", "node.py"):
        assert start(target, instances="2", exec_mode="cluster").node == NodePolicy()


def test_a_binary_that_cannot_be_read_is_not_node(tmp_path: Path) -> None:
    assert not sharing.is_node(Program("x", str(tmp_path / "gone"), "none", (str(tmp_path / "gone"),), {}))


@pytest.mark.parametrize("options", [{"node_cluster": True}, {"exec_mode": "cluster"}])
def test_a_cluster_of_node_shares_its_ports(start: Start, options: dict[str, Any]) -> None:
    spec = start("web.js", **options)
    assert (spec.node, spec.sharing.share) == (NodePolicy(channel=True, cluster=True), True)
    with pytest.raises(UsageProblem, match="cannot start web in cluster mode"):
        start("web.js", share=False, **options)


@pytest.mark.parametrize("option", ["node_cluster", "shutdown_with_message"])
def test_what_is_for_node_only(start: Start, option: str) -> None:
    with pytest.raises(UsageProblem, match="for programs that node or bun runs, and this is none"):
        start("./app", **{option: True})
    spec = start("web.js", **{option: True})
    assert (spec.node.cluster, spec.stop.shutdown_with_message) == (option != "shutdown_with_message", option[0] == "s")


# --- the command line ---------------------------------------------------------------------------------------


def test_options_are_named_as_they_are_typed() -> None:
    assert named(Options(share=True, port=80, node_cluster=True)) == ["--share", "--port", "--node-cluster"]
    assert named(Options(share=False, instance_var="N")) == ["--no-share", "--instance-var"]


def test_every_error_says_what_to_do(start: Start) -> None:
    wrong: list[dict[str, Any]] = [
        {"port": 0}, {"balance": "x", "share": True}, {"weights": "x", "share": True}, {"weights": "0", "share": True},
        {"balance": "ip"}, {"increment_var": "X"}, {"instance_var": ""}, {"node_cluster": True}, {"listen": ["x"]},
        {"listen": [":1", ":1"]}, {"listen": [":1", "[::]:1"]}, {"listen": ["unix:" + "x" * 200]},
        {"port": 1, "increment_var": "PORT"}, {"increment_var": "HOME", "environ": {"HOME": os.sep}},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(UsageProblem) as caught:
            start(**options)
        assert caught.value.message.startswith("cannot "), options
        assert caught.value.hint, options

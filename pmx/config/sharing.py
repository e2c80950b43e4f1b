"""How instances share ports, and what node and bun programs get: the options that clusters brought.

A socket is written as a url with a name before it where it needs one: ``http=tcp://0.0.0.0:8000``. Here it becomes the
pair that a spec has, with the host as a number, because the keeper, which opens it, must not wait for a name server.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pmx.config.program import DIRECT, Program
from pmx.core.spec import NodePolicy, SharePolicy
from pmx.errors import UsageProblem

if TYPE_CHECKING:
    from pmx.config.launch import Options

BALANCES = ("random", "ip", "least_conn", "shared")
RUNTIMES = ("node", "nodejs", "bun")
"""Programs that speak on the descriptor of NODE_CHANNEL_FD."""

_LONGEST_PATH = 107  # bytes; sun_path of unix(7) has 108, with a NUL at the end
_NAME = r"[A-Za-z0-9_.-]+"
_FORMS = "write tcp://127.0.0.1:8000, :8000, tcp://[::1]:8000 or unix:///run/app.sock"

Socket = tuple[str, str]
"""Its name in LISTEN_FDNAMES, and its url."""


def share_policy(given: "Options", argv: Sequence[str], cwd: str) -> SharePolicy:
    """How the application shares its ports. Raises UsageProblem."""
    declared = sockets(given.listen or (), cwd)
    check_places(argv, declared)
    clustered = given.node_cluster or given.exec_mode == "cluster"
    by_default = clustered or bool(given.instances or given.port or declared)
    share = by_default if given.share is None else given.share
    for option, value in (("balance", given.balance), ("weights", given.weights)):
        if value is not None and not share:
            raise UsageProblem(f"cannot set {option}: the ports are not shared", "share them with --share")
    return SharePolicy(
        share=share,
        balance="random" if given.balance is None else balance(given.balance),
        weights=() if given.weights is None else weights(given.weights),
        port=0 if given.port is None else port(given.port),
        listen=declared,
    )


def node_policy(given: "Options", program: Program) -> NodePolicy:
    """What the program gets because it is node or bun. Raises UsageProblem when it is not, and needs to be."""
    channel = is_node(program)
    for option, wanted in (
        ("node-cluster", given.node_cluster),
        ("shutdown-with-message", given.shutdown_with_message),
    ):
        if wanted and not channel:
            why = "it is for programs that node or bun runs, and this is none"
            raise UsageProblem(f"cannot start {program.name} with {option}: {why}", f"leave out --{option}")
    cluster = given.node_cluster or (channel and given.exec_mode == "cluster")
    if cluster and given.share is False:
        why = "a worker of a cluster gets its ports from pmx, and they are not to be shared"
        raise UsageProblem(f"cannot start {program.name} in cluster mode: {why}", "leave out --no-share")
    return NodePolicy(channel=channel, cluster=cluster)


def is_node(program: Program) -> bool:
    """Whether node or bun runs it: named in its command, in its #! line, or behind env in one of them."""
    commands = [list(program.argv)]
    if program.interpreter == DIRECT:
        commands.append(_shebang(program.script))
    return any(_runtime(command) in RUNTIMES for command in commands)


def _runtime(command: list[str]) -> str:
    if command and os.path.basename(command[0]) == "env":
        words = " ".join(command[1:2]).split()  # a #! line gives env one argument: "-S node --title=x"
        command = [word for word in words if not word.startswith("-") and "=" not in word]
    return os.path.basename(command[0]) if command else ""


def _shebang(path: str) -> list[str]:
    """The interpreter of the #! line and its one argument; nothing if there is no such line."""
    try:
        with open(path, "rb") as file:
            line = file.readline(512)
    except OSError:  # a binary may be executable and not readable
        return []
    return os.fsdecode(line[2:]).split(None, 1) if line.startswith(b"#!") else []


# --- what one word means ------------------------------------------------------------------------------------


def port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise UsageProblem(f"cannot use the port {number}: it must be from 1 to 65535", "give one, as in --port 8000")
    return number


def balance(text: str) -> str:
    name = text.replace("-", "_")
    if name not in BALANCES:
        raise UsageProblem(f"cannot balance by {text!r}: there is no such way", f"give {', '.join(BALANCES)}")
    return name


def weights(text: str) -> tuple[int, ...]:
    parts = text.replace(",", " ").split()
    if not parts or not all(re.fullmatch(r"[0-9]{1,3}", part) and int(part) <= 100 for part in parts):
        raise UsageProblem(f"cannot read the weights {text!r}", "give numbers from 0 to 100, as in 3,1")
    found = tuple(map(int, parts))
    if not any(found):
        raise UsageProblem(f"cannot use the weights {text!r}: nobody would get a connection", "give one more than 0")
    return found


def variable(text: str) -> str:
    """The name of an environment variable."""
    if not text or "=" in text or "\0" in text:
        raise UsageProblem(f"cannot use {text!r} as the name of a variable", "give one such as WORKER_NUMBER")
    return text


def increment_var(text: str | None, env: Mapping[str, str], with_port: bool) -> str:
    """The variable that each instance gets with its number added: it must have a number to begin with."""
    if text is None:
        return ""
    name = variable(text)
    if with_port and name == "PORT":
        raise UsageProblem("cannot count PORT up: with a port, all instances get the same", "leave out one of the two")
    if name not in env:
        raise UsageProblem(f"cannot count {name} up: it is not in the environment", f"set it with --env {name}=3000")
    if not re.fullmatch(r"-?[0-9]{1,15}", env[name]):
        # Not the value: it may be a secret.
        raise UsageProblem(f"cannot count {name} up: its value is no number", f"set it with --env {name}=3000")
    return name


# --- declared sockets ---------------------------------------------------------------------------------------


def sockets(texts: Sequence[str], cwd: str) -> tuple[Socket, ...]:
    """The sockets that `texts` declare, in their order; no name and no url twice."""
    found: list[Socket] = []
    for text in texts:
        name, url = socket_of(text, cwd)
        if url in [other for _, other in found]:
            raise UsageProblem(f"cannot listen on {url} twice", "leave out one of the two")
        if name in [other for other, _ in found]:
            raise UsageProblem(
                f"cannot give two sockets the name {name!r}", f"give {url} another one, as in other={url}"
            )
        found.append((name, url))
    return tuple(found)


def socket_of(text: str, cwd: str) -> Socket:
    """One socket, as ``url`` or ``name=url``; the path of a unix socket begins at `cwd`."""
    match = re.fullmatch(rf"({_NAME})=(.*)", text, re.DOTALL)
    name, url = match.groups() if match else ("", text)
    if url.startswith("unix:"):
        path = _socket_path(url.removeprefix("unix:"), text, cwd)
        stem = os.path.splitext(os.path.basename(path))[0]
        return name or re.sub(r"[^A-Za-z0-9_.-]", "-", stem), f"unix://{path}"
    host, number = _address(url.removeprefix("tcp://"), text)
    return name or f"tcp-{number}", f"tcp://{_numeric(host, text)}:{number}"


def named_url(name: str, url: str) -> str:
    """The text for a name and a url that were given apart, as an ecosystem file may."""
    if not re.fullmatch(_NAME, name):
        why = "it may have letters, digits and the characters _ . -"
        raise UsageProblem(f"cannot give a socket the name {name!r}: {why}", "give one such as http")
    return f"{name}={url}"


def check_places(argv: Sequence[str], declared: Sequence[Socket]) -> None:
    """Each ``{fd.NAME}`` in a command must name a declared socket: the daemon puts its descriptor there."""
    names = [name for name, _ in declared]
    for place in (match[1] for word in argv for match in re.finditer(r"\{fd\.([^{}]*)\}", word)):
        if place not in names:
            there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else "there is none"
            raise UsageProblem(
                f"cannot put a descriptor for {{fd.{place}}}: no socket of that name is declared, {there}",
                f"declare it with --listen {place or 'http'}=tcp://127.0.0.1:8000",
            )


def _socket_path(text: str, whole: str, cwd: str) -> str:
    if text.startswith("//"):
        if not text.startswith("///"):
            raise _unreadable(whole, "unix:// is followed by an absolute path, so by a third slash")
        text = f"/{text.lstrip('/')}"  # two slashes at the beginning may mean something else (POSIX)
    if not text or text.endswith("/") or "\0" in text:
        raise _unreadable(whole, "it names no file")
    path = os.path.abspath(os.path.join(cwd, os.path.expanduser(text)))
    length = len(os.fsencode(path))
    if length > _LONGEST_PATH:
        why = f"its path has {length} bytes, and the kernel takes {_LONGEST_PATH}"
        raise UsageProblem(f"cannot listen on {path}: {why}", "give a shorter one, under /run or /tmp")
    return path


def _address(text: str, whole: str) -> tuple[str, int]:
    """Host, empty for every one, and port of ``host:port``, ``[v6]:port``, ``:port`` or ``port``."""
    match = re.fullmatch(r"(?:(\[[^\]]*\]|[^:\[\]/@\s]*):)?([0-9]{1,5})", text)
    if match is None:
        bare = text.count(":") > 1 and re.fullmatch("[0-9A-Fa-f:]+", text)
        raise _unreadable(whole, "an IPv6 address goes in brackets" if bare else "it is no address with a port")
    number = int(match[2])
    if not 1 <= number <= 65535:
        raise _unreadable(whole, "its port must be from 1 to 65535")
    return match[1] or "", number


def _numeric(host: str, whole: str) -> str:
    """The address of `host`; of a name with several the first of IPv4, which every program understands."""
    if host in ("", "*"):
        return "0.0.0.0"
    import socket  # only who declares sockets needs it

    if host.startswith("["):
        try:
            return f"[{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host[1:-1]))}]"
        except OSError:
            raise _unreadable(whole, f"{host[1:-1]!r} is no IPv6 address") from None
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _unreadable(whole, f"{host!r} has no address") from None
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return f"[{address[0]}]" if family == socket.AF_INET6 else str(address[0])


def _unreadable(whole: str, why: str) -> UsageProblem:
    return UsageProblem(f"cannot listen on {whole!r}: {why}", _FORMS)

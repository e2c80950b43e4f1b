import errno
from collections.abc import Callable

import pytest
from hypothesis import example, given, strategies as st

from pmx.keeper import seccomp
from pmx.keeper.seccomp import IPV6_V6ONLY, NUMBERS, SO_REUSEPORT, Numbers, filter_program

ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
WORD = 0xFFFFFFFF


def run(program: list[tuple[int, int, int, int]], data: dict[int, int]) -> int:
    """What the kernel would do with a system call: `data` are the words of struct seccomp_data by their offset."""
    a = x = at = 0
    while True:
        code, true, false, k = program[at]
        at += 1
        match code:
            case 0x20:
                a = data[k]
            case 0x15:
                at += true if a == k else false
            case 0x64:
                a = a << k & WORD
            case 0x07:
                x = a
            case 0x4C:
                a |= x
            case 0x06:
                return k
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def decision(n: Numbers, number: int, level: int = 0, option: int = 0, arch: int | None = None) -> int:
    words = {0: number, 4: n.arch if arch is None else arch, 24: level, 32: option}
    return run(filter_program(n), words)


MACHINES = pytest.mark.parametrize("n", NUMBERS.values(), ids=NUMBERS)


@MACHINES
def test_bind_and_listen_are_asked_about_whatever_their_arguments(n: Numbers) -> None:
    for level, option in ((0, 0), (WORD, WORD), IPV6_V6ONLY):
        assert decision(n, n.bind, level, option) == NOTIFY
        assert decision(n, n.listen, level, option) == NOTIFY


@MACHINES
@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
@example(*IPV6_V6ONLY)
@example(*SO_REUSEPORT)
@example(*reversed(IPV6_V6ONLY))
@example(1, 2)
def test_of_the_options_only_two_are(n: Numbers, level: int, option: int) -> None:
    wanted = NOTIFY if (level, option) in (IPV6_V6ONLY, SO_REUSEPORT) else ALLOW
    assert decision(n, n.setsockopt, level, option) == wanted


@MACHINES
@given(st.integers(0, 1000))
def test_every_other_call_is_let_pass(n: Numbers, number: int) -> None:
    asked = number in (n.bind, n.listen)
    assert decision(n, number) == (NOTIFY if asked else ALLOW)


@MACHINES
def test_a_program_for_another_machine_is_let_pass(n: Numbers) -> None:
    """i386 has other numbers: its 49 is geteuid."""
    assert decision(n, n.bind, arch=0x40000003) == ALLOW


def test_where_the_numbers_are_not_known_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "HERE", None)
    with pytest.raises(OSError, match="are not known") as caught:
        seccomp.install()
    assert caught.value.errno == errno.ENOSYS


@pytest.mark.parametrize("call", [seccomp.receive, lambda fd: seccomp.answer(fd, seccomp.Call(1, 1, 49, ()))])
def test_what_is_no_listener_is_an_error(call: Callable[[int], object]) -> None:
    with pytest.raises(OSError, match="ioctl"):
        call(0)


def test_a_call_on_what_is_no_listener_is_gone() -> None:
    assert not seccomp.still_there(0, seccomp.Call(1, 1, 49, ()))

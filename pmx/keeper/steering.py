"""Which listener of a SO_REUSEPORT group gets a new connection: a small program in classic BPF, run by the kernel.

It is asked at each SYN and returns an index, which is the order of listen(2) in the group; never one out of range, as
the kernel would then pick among all, the excluded included. A new program replaces the old at once.

``random`` draws a number and finds it among the weights. ``ip`` takes a hash of the client's address instead: the
remainder picks the slot, and the quotient a substitute when that is closed. So closing a slot moves its own clients,
and those who had a substitute already; opening it moves them back. Other weights, or more slots, move nearly all.
"""

import ctypes
import struct
from collections.abc import Collection, Sequence
from itertools import groupby

from pmx.keeper.linux import libc

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand: struct sock_filter of linux/filter.h."""

_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF, Linux 4.5
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM: no byte of the packet, but a random number
_IP = 0xFFF00000  # SKF_NET_OFF: here the network header begins
_LOAD, _LOAD_BYTE, _STORE, _RECALL, _TO_X = 0x20, 0x30, 0x02, 0x60, 0x07
_ADD, _MULTIPLY, _DIVIDE, _REMAINDER, _SHIFT_RIGHT, _XOR_X = 0x04, 0x24, 0x34, 0x94, 0x74, 0xAC
_JUMP, _IF_EQUAL, _IF_AT_LEAST, _RETURN, _RETURN_A = 0x05, 0x15, 0x35, 0x06, 0x16


def program(balance: str, weights: Sequence[tuple[int, int]], closed: Collection[int] = ()) -> list[Instruction]:
    """The program for `weights`, [index, weight of at least 1], of which those in `closed` get nothing now.

    `balance` is ip, or random like everything else. At least one index is open; 1,000 fit into 4,096 instructions.
    """
    chosen = [each for each in weights if each[0] not in closed]
    total, rest = sum(weight for _, weight in weights), sum(weight for _, weight in chosen)
    if len(chosen) == 1:
        return [_do(_RETURN, chosen[0][0])]
    pick = [_do(_REMAINDER, rest), *_search(_leaves(chosen))]
    if balance != "ip":
        return [_do(_LOAD, _RANDOM), *pick]
    if len(chosen) == len(weights):
        return [*_hash(), *pick]
    first = _search(_leaves(weights, closed))
    ways = [each if each[0] != _JUMP or each[3] else _do(_JUMP, len(first) - at - 1) for at, each in enumerate(first)]
    return [*_hash(), _do(_STORE), _do(_REMAINDER, total), *ways, _do(_RECALL), _do(_DIVIDE, total), *pick]


def attach(fd: int, program: Sequence[Instruction]) -> None:
    """Have the group of the listening socket `fd` steered by `program`. Raises OSError, as of setsockopt(2)."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    head = struct.pack("HP", len(program), ctypes.addressof(code))  # struct sock_fprog
    if libc.setsockopt(fd, 1, _ATTACH, head, len(head)) != 0:  # 1: SOL_SOCKET
        raise OSError(ctypes.get_errno(), "setsockopt(SO_ATTACH_REUSEPORT_CBPF)")


def _do(code: int, operand: int = 0) -> Instruction:
    return code, 0, 0, operand


def _hash() -> list[Instruction]:
    """The client's address, in 32 bits that all depend on each other; a dual-stack socket gets packets of version 4."""
    v6 = [_do(_LOAD, _IP + 8)]
    for at in (12, 16, 20):
        v6 += [_do(_MULTIPLY, 0x9E3779B1), _do(_TO_X), _do(_LOAD, _IP + at), _do(_XOR_X)]
    code = [_do(_LOAD_BYTE, _IP), _do(_SHIFT_RIGHT, 4), (_IF_EQUAL, len(v6) + 1, 0, 4), *v6]
    code += [_do(_JUMP, 1), _do(_LOAD, _IP + 12)]
    for factor, shift in ((1, 16), (0x85EBCA6B, 13), (0xC2B2AE35, 16)):  # the finalizer of MurmurHash3
        code += [_do(_MULTIPLY, factor), _do(_TO_X), _do(_SHIFT_RIGHT, shift), _do(_XOR_X)]
    return code


def _leaves(weights: Sequence[tuple[int, int]], closed: Collection[int] = ()) -> list[tuple[int, list[Instruction]]]:
    """From which number on, and what then to do; neighbours of the same weight share one. Closed: a jump to nowhere."""
    leaves, base = [], 0
    ordered = enumerate(sorted(weights))
    for (_, weight, shut), run in groupby(ordered, lambda it: (it[1][0] - it[0], it[1][1], it[1][0] in closed)):
        first, *more = [index for _, (index, _) in run]
        computed = [_do(_ADD, first * weight - base & 0xFFFFFFFF), _do(_DIVIDE, weight), _do(_RETURN_A)]
        leaves.append((base, [_do(_JUMP)] if shut else computed if more else [_do(_RETURN, first)]))
        base += weight * (1 + len(more))
    return leaves


def _search(leaves: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """Bisection: A goes to the last leaf that begins at or below it. A conditional jump reaches 255 instructions."""
    if len(leaves) == 1:
        return leaves[0][1]
    left, right = _search(leaves[: len(leaves) // 2]), _search(leaves[len(leaves) // 2 :])
    bound, length = leaves[len(leaves) // 2][0], len(left)
    way = [(_IF_AT_LEAST, length, 0, bound)] if length <= 255 else [(_IF_AT_LEAST, 0, 1, bound), _do(_JUMP, length)]
    return [*way, *left, *right]

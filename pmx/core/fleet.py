"""Who is meant: selectors as people write them, and the names that leave no doubt.

PM2's order: ``all``, then ``/a regular expression over names/``; anything else is a name, else a namespace, else an
id. The first of these that matches wins, so a program called ``3`` hides the id 3. A selector that matches nothing is
an error, except ``all``: of no programs, all are none.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pmx.errors import NotFound, UsageProblem

ALL = "all"
LONGEST_NAME = 100
MAX_INSTANCES = 10_000


class Entry(NamedTuple):
    """What selectors look at."""

    id: int
    name: str
    namespace: str


def select(entries: Sequence[Entry], selectors: Sequence[str]) -> list[int]:
    """The ids that any of `selectors` means, each once, in the order of `entries`. Raises NotFound, UsageProblem."""
    meant = {id_ for selector in selectors for id_ in _matches(entries, selector)}
    return [entry.id for entry in entries if entry.id in meant]


def check_name(name: str) -> None:
    """Raises UsageProblem when `name` could not be selected, shown or used in a file name."""
    problems = (
        (not name.strip(), "it is empty"),
        (name == ALL, "it means every program"),
        ("/" in name, "it contains a slash"),
        (not name.isprintable(), "it contains a character that cannot be shown"),
        (name.startswith("-"), "it would be taken for an option"),
        (len(name) > LONGEST_NAME, f"it is longer than {LONGEST_NAME} characters"),
    )
    for wrong, why in problems:
        if wrong:
            raise UsageProblem(f"cannot use the name {_excerpt(name)!r}: {why}", "give another one with --name")


def _matches(entries: Sequence[Entry], selector: str) -> list[int]:
    if selector == ALL:
        return [entry.id for entry in entries]
    if len(selector) > 1 and selector.startswith("/") and selector.endswith("/"):
        return _matching_names(entries, selector[1:-1])
    # The id as text: "007" is not 7, and a number of any length is harmless.
    ways = (lambda e: e.name, lambda e: e.namespace, lambda e: str(e.id))
    for way in ways:
        found = [entry.id for entry in entries if way(entry) == selector]
        if found:
            return found
    raise NotFound(
        f"cannot find a program called {_excerpt(selector)!r}: nothing has that name, namespace or id",
        _hint(entries, selector),
    )


def _matching_names(entries: Sequence[Entry], pattern: str) -> list[int]:
    if not pattern:
        # An empty pattern matches everything; `pmx delete //` must not.
        raise UsageProblem("cannot use the selector //: the pattern is empty", "say all to mean every program")
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UsageProblem(
            f"cannot use the selector {f'/{pattern}/'!r}: {error}", "write a regular expression, as in /^web-/"
        ) from None
    found = [entry.id for entry in entries if regex.search(entry.name)]
    if not found:
        raise NotFound(f"cannot find a program that matches {f'/{pattern}/'!r}: no name does", _hint(entries, ""))
    return found


def _hint(entries: Sequence[Entry], selector: str) -> str:
    """The nearest names, else where to see them all."""
    from difflib import get_close_matches  # only somebody who mistyped waits for it

    if not entries:
        return "there are no programs yet: try  pmx start app.py"
    known = sorted({name for entry in entries for name in (entry.name, entry.namespace)})
    close = [repr(name) for name in get_close_matches(selector, known)]
    return f"did you mean {' or '.join(close)}?" if close else "see what there is with  pmx ls"


def _excerpt(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def check_instances(number: int) -> None:
    """Raise UsageProblem unless so many instances can be meant."""
    if not 1 <= number <= MAX_INSTANCES:
        raise UsageProblem(
            f"cannot start {number} instances: the number must be from 1 to {MAX_INSTANCES}",
            "give a number, max (one a core) or -1 (one less)",
        )


def free_numbers(taken: Iterable[int], count: int) -> list[int]:
    """The `count` lowest instance numbers that are not `taken`, in order."""
    used = set(taken)
    return [number for number in range(len(used) + count) if number not in used][:count]


def scaled(name: str, now: int, to: str, cores: int) -> int:
    """How many instances `name`, which has `now`, is to have: `to` is a number, +2, -1 or max, which is `cores`."""
    if to == "max":
        return cores
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", to):
        raise UsageProblem(
            f"cannot scale {name} to {_excerpt(to)!r}: it is no number", "give a number, +2, -1, or max (one a core)"
        )
    number = now + int(to) if to[0] in "+-" else int(to)
    if number < 1:
        raise UsageProblem(
            f"cannot scale {name} to {number} instances: one must be left",
            f"pmx stop {name} ends all of them, pmx delete {name} also removes them from the list",
        )
    if number > MAX_INSTANCES:
        raise UsageProblem(
            f"cannot scale {name} to {number} instances: {MAX_INSTANCES} is the most", "give a smaller number"
        )
    return number

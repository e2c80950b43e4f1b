"""Reads YAML, and JSON, which is YAML too: strictly, and with the place of everything.

PyYAML finds out what belongs to what, with the line and column of each part. What a word means is decided here, by
the core schema of YAML 1.2: ``on``, ``yes`` and ``1:30`` are text, ``012`` is twelve, and only ``true``, ``false``,
``null``, integers and floats are anything else. A key is the text that stands there, whatever it looks like.
Anchors, aliases and ``<<`` work. A key that is written twice is an error, and so is a tag that is not of YAML itself.

A small file can say a lot with aliases of aliases, so there are bounds: on its size, its depth, and what it means in
all. Any text whatsoever is either read or refused with a UsageProblem.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from yaml.composer import Composer, ComposerError
from yaml.error import Mark, MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from pmx.errors import PmxError, UsageProblem

LARGEST_FILE = 1 << 20
DEEPEST = 64
MOST_VALUES = 100_000

Path = tuple[str | int, ...]
"""The keys and list indices that lead from the top of a file to a value."""


class Place(NamedTuple):
    """As an editor counts: from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """What is wrong, and where."""

    place: Place
    text: str


class Spot(NamedTuple):
    """Where a value and its key stand, and, for a bare word such as 1.10 or true, how it is written."""

    key: Place
    value: Place
    written: str | None


class Document(NamedTuple):
    """What a file says, as plain data, and where it says it."""

    name: str
    data: Any
    spots: dict[Path, Spot]

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value at `path` stands, or its key; of what is not there, where it should be."""
        while path not in self.spots:
            path, key = path[:-1], False
        return self.spots[path].key if key else self.spots[path].value

    def written(self, path: Path) -> str | None:
        """The number or word at `path` as it was typed; None for anything else."""
        return self.spots[path].written if path in self.spots else None


def report(name: str, problems: Sequence[Problem], kind: type[PmxError] = UsageProblem) -> PmxError:
    """All `problems` of the file `name` as one error, each with ``file:line:column``, in the order of the file."""
    lines = [f"{name}:{place.line}:{place.column}: {text}" for place, text in sorted(set(problems))]
    found = lines[0] if len(lines) == 1 else f"{len(lines)} problems\n  " + "\n  ".join(lines)
    return kind(f"cannot use {name}: {found}", "nothing was started")


def read(path: str) -> Document:
    """What the file says. Raises UsageProblem; messages name the file as `path` does."""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageProblem(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > LARGEST_FILE:
        raise UsageProblem(f"cannot read {path}: it is larger than {LARGEST_FILE >> 20} MiB", "is it the right file?")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        place = _place_of(raw[: error.start].decode())
        raise report(path, [Problem(place, "this is not UTF-8")]) from None
    return parse(text, path)


def parse(text: str, name: str) -> Document:
    """What `text`, of the file `name`, says. Raises UsageProblem."""
    builder = _Builder()
    data = None
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        builder.spots[()] = Spot(Place(1, 1), Place(1, 1), None)
        data = builder.build(node, (), node.start_mark) if node else None
    except MarkedYAMLError as error:
        builder.problems.append(Problem(_place(error.problem_mark), _reason(error)))
    except (ValueError, OverflowError):  # PyYAML trusts numbers in escapes and directives: "\UFFFFFFFF"
        mark = loader.get_mark() if loader else None
        builder.problems.append(Problem(_place(mark), "this is not YAML: there is no character of that number"))
    if builder.problems:
        raise report(name, builder.problems)
    return Document(name, data, builder.spots)


def _place(mark: Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _place_of(before: str) -> Place:
    """Of what follows the text `before`."""
    lines = re.split(r"\r\n?|\n", before)
    return Place(len(lines), len(lines[-1]) + 1)


def _reason(error: MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be read"
    if r"'\t'" in problem:
        return "a tab cannot indent: use spaces"
    if error.context == "expected a single document in the stream":
        return "a second document begins here: a file has one"
    if isinstance(error, _Refused):
        return problem
    return f"this is not YAML: {problem}" + (f" ({error.context})" if error.context else "")


# --- from text to nodes: PyYAML, with the rules of YAML 1.2 -------------------------------------------------

_YAML = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _MERGE, _STR = (
    f"{_YAML}{kind}" for kind in ("null", "bool", "int", "float", "merge", "str")
)
_SEQ, _MAP = f"{_YAML}seq", f"{_YAML}map"
_WORDS = {
    _NULL: re.compile(r"~|null|Null|NULL|"),
    _BOOL: re.compile(r"true|True|TRUE|false|False|FALSE"),
    _INT: re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    _FLOAT: re.compile(
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
    ),
    _MERGE: re.compile(r"<<"),
}
# The last three end a line for YAML 1.1, and so for PyYAML, but not for YAML 1.2 and JSON: better no meaning than two.
_UNREADABLE = re.compile(r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\x85\u2028\u2029]")


class _Refused(ComposerError):
    """Our own refusal, in the form of PyYAML's."""

    def __init__(self, text: str, mark: Mark) -> None:
        super().__init__(None, None, text, mark)


class _Loader(Reader, Scanner, Parser, Composer):
    """PyYAML up to the nodes. Its Resolver, with the rules of YAML 1.1, is left out, and its Constructor."""

    def __init__(self, text: str) -> None:
        self.depth = 0
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)

    def check_printable(self, data: Any) -> None:
        found = _UNREADABLE.search(data)
        if found:
            line, column = _place_of(data[: found.start()])
            mark = Mark(self.name, found.start(), line - 1, column - 1, None, 0)
            escape = f"\\u{ord(found[0]):04x}"
            raise _Refused(f'a character that cannot be seen: write it as "{escape}"', mark)

    def scan_to_next_token(self) -> None:
        """Tabs between words, as in JSON that is indented with them; as indentation of YAML they are no use."""
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _Refused(f"this is nested more than {DEEPEST} deep", self.peek_event().start_mark)  # type: ignore[no-untyped-call]  # a hole in the stubs
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        """The tag of a node that was given none."""
        if kind is not ScalarNode:
            return _SEQ if kind is SequenceNode else _MAP
        plain = implicit[0]
        return next((tag for tag, words in _WORDS.items() if plain and words.fullmatch(value)), _STR)

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """The Resolver's affair."""

    def ascend_resolver(self) -> None:
        """The Resolver's affair."""


# --- from nodes to data -------------------------------------------------------------------------------------


class _Builder:
    """Makes data of nodes. What does not stop it is collected in `problems`; what does is raised."""

    def __init__(self) -> None:
        self.spots: dict[Path, Spot] = {}
        self.problems: list[Problem] = []
        self._open: list[Node] = []
        self._left = MOST_VALUES

    def build(self, node: Node, path: Path, key: Mark) -> Any:
        bare = isinstance(node, ScalarNode) and node.tag in (_BOOL, _INT, _FLOAT)
        self.spots[path] = Spot(_place(key), _place(node.start_mark), node.value if bare else None)
        self._enter(node)
        try:
            if isinstance(node, ScalarNode):
                return self._scalar(node)
            if node.tag not in (_SEQ, _MAP):
                return self._wrong_tag(node)
            if isinstance(node, SequenceNode):
                return [self.build(item, (*path, i), item.start_mark) for i, item in enumerate(node.value)]
            pairs = self._pairs(node)
            return {name: self.build(value, (*path, name), at.start_mark) for name, (at, value) in pairs.items()}
        finally:
            self._open.pop()

    def _enter(self, node: Node) -> None:
        if any(each is node for each in self._open):
            raise _Refused("this contains itself", node.start_mark)
        self._open.append(node)
        self._left -= 1
        if self._left < 0 or len(self._open) > DEEPEST:
            raise _Refused("this grows too large: there are too many aliases of aliases", node.start_mark)

    def _pairs(self, node: Node) -> dict[str, tuple[Node, Node]]:
        """Keys, with the nodes of key and value; the mapping's own win over merged ones, earlier ones over later."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            name = self._key(key)
            if name in own:
                first = _place(own[name][0].start_mark).line
                self._note(key, f"the key {name!r} is here twice: it is in line {first} already")
            own[name] = (key, value)
        if "<<" in own and own["<<"][0].tag == _MERGE:
            for source in self._sources(own.pop("<<")[1]):
                self._enter(source)
                merged = {**self._pairs(source), **merged}
                self._left -= len(source.value)
                self._open.pop()
        return {**merged, **own}

    def _sources(self, node: Node) -> Iterator[Node]:
        """The mappings that ``<<`` names: one, or a list."""
        for each in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(each, MappingNode):
                yield each
            else:
                self._note(each, "<< needs a mapping, or a list of them")

    def _key(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            self._note(node, "a key must be a word, not a list or a mapping")
            return ""
        if node.tag not in (*_WORDS, _STR):
            self._wrong_tag(node)
        return self._text(node)

    def _scalar(self, node: ScalarNode) -> Any:
        text = self._text(node)
        if node.tag in (_STR, _MERGE):
            return text
        if node.tag not in _WORDS or not _WORDS[node.tag].fullmatch(text):
            return self._wrong_tag(node)
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        if node.tag == _FLOAT:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        try:
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        except ValueError:  # Python refuses to read more than some thousand digits
            self._note(node, "this number is too long")

    def _text(self, node: ScalarNode) -> str:
        text: str = node.value
        try:
            # JSON writes a character beyond U+FFFF as two escapes, which PyYAML leaves as two halves.
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._note(node, r"half a character: \ud800 to \udfff must come in pairs")
            return ""

    def _wrong_tag(self, node: Node) -> None:
        self._note(node, f"the tag {node.tag.replace(_YAML, '!!')} does not fit here: leave it out")

    def _note(self, node: Node, text: str) -> None:
        self.problems.append(Problem(_place(node.start_mark), text))

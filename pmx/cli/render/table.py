"""Tables of text: a box for a person at a terminal, bare columns for a program behind a pipe.

Three styles. `boxed` draws lines and colours; `mono` is the same without colour; neither is ever wider than the
terminal: first columns that may shrink lose their tails, then columns go, the least important first. `plain` is for
programs: lower-case header, columns two or more spaces apart, nothing cut, no cell empty, no escape sequence.

What a cell says comes from users and their programs, so it is made harmless before it is measured: a name must not be
able to move the cursor or to recolour the screen.
"""

import os
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple, TextIO

Style = Literal["boxed", "mono", "plain"]
Cell = str | tuple[str, str]  # text, or text and a colour name


class Column(NamedTuple):
    """A heading, and what happens to its cells when room is short. Low priorities are dropped first."""

    header: str
    align: Literal["left", "right"] = "left"
    shrink: bool = False
    priority: int = 0


Cells = list[tuple[str, str]]

_NARROWEST = 20  # no terminal is taken to be narrower: below this there is nothing left to arrange
_SHORTEST = 10  # a shrinking column keeps this much, so that what is left can still be told apart
_ELLIPSIS = "…"
_TOP, _MIDDLE, _BOTTOM = ("┌", "┬", "┐"), ("├", "┼", "┤"), ("└", "┴", "┘")
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36", "header": "1;36"}


def screen(stream: TextIO) -> tuple[int, Style]:
    """The width and the style for what is written to `stream`. NO_COLOR is respected."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # a pipe, a file, closed, or no descriptor at all
        return 0, "plain"
    if (stream.encoding or "").lower().replace("-", "") != "utf8":
        return 0, "plain"
    bare = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return width or 80, "mono" if bare else "boxed"  # some pseudo-terminals say their width is 0


def render(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, width: int, style: Style) -> str:
    """The table as lines joined by newlines, without a last newline. `width` does not matter in plain style."""
    columns = [column._replace(header=visible(column.header)) for column in columns]
    cells = [_harmless(row) for row in rows]
    if style == "plain":
        return _plain(columns, cells)
    natural = [
        max(display_width(column.header), *(display_width(row[i][0]) for row in cells), 0)
        for i, column in enumerate(columns)
    ]
    kept, widths = _fit(columns, natural, max(width, _NARROWEST))
    shown = [columns[i] for i in kept]
    lines = [_rule(_TOP, widths, style), _line([(column.header, "header") for column in shown], shown, widths, style)]
    if cells:
        lines.append(_rule(_MIDDLE, widths, style))
    lines.extend(_line([row[i] for i in kept], shown, widths, style) for row in cells)
    return "\n".join([*lines, _rule(_BOTTOM, widths, style)])


def key_value(title: str, pairs: Sequence[tuple[str, Cell]], *, width: int, style: Style) -> str:
    """A title above pairs of a key and a value. A long value goes on in the next line; nothing is cut off."""
    title = visible(title)
    keys = [visible(key) for key, _ in pairs]
    values = _harmless([value for _, value in pairs])
    if style == "plain":
        return "\n".join([title, *_aligned([[k.lower(), v] for k, (v, _) in zip(keys, values, strict=True)])])
    width = max(width, _NARROWEST)
    left = min(max(map(display_width, keys), default=0), (width - 7) // 2)
    pieces = [_wrap(text, width - 7 - left) for text, _ in values]
    widths = [left, max((display_width(piece) for each in pieces for piece in each), default=0)]
    lines = [paint(shorten(title, width), "bold", style), _rule(_TOP, widths, style)]
    for key, (_, colour), parts in zip(keys, values, pieces, strict=True):
        for row, part in enumerate(parts):
            lines.append(_line([("" if row else key, "header"), (part, colour)], _PAIR, widths, style))
    return "\n".join([*lines, _rule(_BOTTOM, widths, style)])


_PAIR = (Column("key"), Column("value"))


def visible(text: str) -> str:
    """`text` with everything that a terminal obeys instead of showing written as an escape: ESC becomes ``\\x1b``."""
    if text.isprintable():
        return text
    # The codec also writes lone surrogates, which stand for the bytes of a file name that is not UTF-8.
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def display_width(text: str) -> int:
    """Terminal cells taken by printable `text`."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def shorten(text: str, room: int) -> str:
    """`text`, or its beginning and an ellipsis when it is wider than `room` (at least 1)."""
    if display_width(text) <= room:
        return text
    return _take(text, room - 1) + _ELLIPSIS


def paint(text: str, colour: str, style: Style) -> str:
    """`text` in `colour`, when there is one and the style has colours."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour and text and style == "boxed" else text


def _cells_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):  # drawn upon the character before
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _take(text: str, room: int) -> str:
    """The longest beginning of `text` that fits."""
    if text.isascii():
        return text[:room]
    used = end = 0
    while end < len(text) and (used := used + _cells_of(text[end])) <= room:
        end += 1
    return text[:end]


def _wrap(text: str, room: int) -> list[str]:
    """`text` in pieces that fit; at least one piece. `room` is at least 2, so that any character does."""
    pieces = []
    while display_width(text) > room:
        piece = _take(text, room)
        word_end = piece.rfind(" ") + 1
        pieces.append(piece[:word_end] if word_end > len(piece) // 2 else piece)
        text = text[len(pieces[-1]) :]
    return [*pieces, text] if text or not pieces else pieces


def _harmless(row: Sequence[Cell]) -> Cells:
    return [(visible(cell), "") if isinstance(cell, str) else (visible(cell[0]), cell[1]) for cell in row]


def _plain(columns: Sequence[Column], rows: list[Cells]) -> str:
    header = [column.header.lower() for column in columns]
    return "\n".join(_aligned([header, *([text for text, _ in row] for row in rows)]))


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines of columns, all to the left, so that a line begins with its first field and ends with its last."""
    rows = [[_field(text) for text in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = ([t + " " * (w - display_width(t)) for t, w in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(line).rstrip() for line in lines]


def _field(text: str) -> str:
    """`text` such that two spaces can only be the end of a field, and that no field is missing."""
    inner = text.strip(" ").replace("  ", " \\x20")
    return inner or "-"


def _fit(columns: Sequence[Column], natural: list[int], width: int) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide each is, for lines of at most `width`."""
    kept = list(range(len(columns)))
    while True:
        room = width - 3 * len(kept) - 1  # two blanks and a bar for each column, and one more bar
        widths = _shrunk([min(natural[i], width) for i in kept], [columns[i].shrink for i in kept], room)
        if sum(widths) <= room:
            return kept, widths
        if len(kept) == 1:
            return kept, [room]
        kept.remove(min(kept, key=lambda i: (columns[i].priority, -i)))


def _shrunk(widths: list[int], may_shrink: list[bool], room: int) -> list[int]:
    """`widths`, cell by cell taken from the widest that may shrink, until they fit or none has more to give."""
    for _ in range(sum(widths) - room):
        givers = [i for i, may in enumerate(may_shrink) if may and widths[i] > _SHORTEST]
        if not givers:
            break
        widths[max(givers, key=lambda i: widths[i])] -= 1
    return widths


def _rule(corners: tuple[str, str, str], widths: Sequence[int], style: Style) -> str:
    left, cross, right = corners
    return paint(left + cross.join("─" * (w + 2) for w in widths) + right, "dim", style)


def _line(cells: Cells, columns: Sequence[Column], widths: Sequence[int], style: Style) -> str:
    bar = paint("│", "dim", style)
    inner = bar.join(
        f" {_painted(text, colour, column, w, style)} "
        for (text, colour), column, w in zip(cells, columns, widths, strict=True)
    )
    return bar + inner + bar


def _painted(text: str, colour: str, column: Column, width: int, style: Style) -> str:
    """The cell filled up to `width`; the filling is not painted."""
    text = shorten(text, width)
    filling = " " * (width - display_width(text))
    painted = paint(text, colour, style)
    return filling + painted if column.align == "right" else painted + filling

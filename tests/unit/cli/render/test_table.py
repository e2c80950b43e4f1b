import io
import os
import pty
import re
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from pmx.cli.render.table import Cell, Column, Style, display_width, key_value, render, screen, shorten, visible

COLUMNS = (Column("id", "right"), Column("Name", shrink=True, priority=2), Column("mode", priority=1))
ROWS: list[list[Cell]] = [["0", "web", "fork"], ["10", ("worker", "green"), "fork"]]


def mono(rows: list[list[Cell]], width: int = 80) -> list[str]:
    return render(COLUMNS, rows, width=width, style="mono").splitlines()


def test_mono_draws_a_box_around_aligned_columns() -> None:
    assert mono(ROWS) == [
        "┌────┬────────┬──────┐",
        "│ id │ Name   │ mode │",
        "├────┼────────┼──────┤",
        "│  0 │ web    │ fork │",
        "│ 10 │ worker │ fork │",
        "└────┴────────┴──────┘",
    ]


def test_boxed_is_mono_with_colours() -> None:
    text = render(COLUMNS, ROWS, width=80, style="boxed")
    assert "\x1b[32mworker\x1b[0m" in text
    assert "\x1b[1;36mName\x1b[0m" in text
    for code in ("2", "32", "1;36", "0"):
        text = text.replace(f"\x1b[{code}m", "")
    assert text.splitlines() == mono(ROWS)


def test_plain_has_two_spaces_between_columns_and_lower_case_headings() -> None:
    assert render(COLUMNS, ROWS, width=0, style="plain").splitlines() == [
        "id  name    mode",
        "0   web     fork",
        "10  worker  fork",
    ]


def test_plain_cuts_nothing_however_narrow() -> None:
    name = "n" * 300
    assert name in render(COLUMNS, [["0", name, "fork"]], width=20, style="plain")


def test_plain_fields_are_never_empty_and_never_hold_two_spaces() -> None:
    line = render(COLUMNS, [["0", "", " a   b "]], width=0, style="plain").splitlines()[1]
    assert re.split(" {2,}", line) == ["0", "-", "a \\x20 b"]


@pytest.mark.parametrize("style", ["boxed", "mono"])
def test_no_rows_leave_only_the_header(style: Style) -> None:
    assert len(render(COLUMNS, [], width=80, style=style).splitlines()) == 3


def test_plain_without_rows_is_only_the_header() -> None:
    assert render(COLUMNS, [], width=80, style="plain") == "id  name  mode"


def test_first_the_shrinking_column_gives() -> None:
    lines = mono([["0", "a-rather-long-name", "fork"]], width=30)
    assert lines[3] == "│  0 │ a-rather-long… │ fork │"
    assert {len(line) for line in lines} == {30}


def test_then_the_least_important_columns_go_and_the_rest_has_their_room() -> None:
    assert mono([["0", "a-rather-long-name", "fork"]], width=24)[3] == "│ a-rather-lon… │ fork │"
    assert mono([["0", "a-rather-long-name", "fork"]], width=22)[3] == "│ a-rather-l… │ fork │"
    assert mono([["0", "a-rather-long-name", "fork"]], width=20)[3] == "│ a-rather-long-n… │"


def test_the_last_column_is_cut_even_if_it_should_not_shrink() -> None:
    lines = render([Column("pid")], [["1" * 40]], width=20, style="mono").splitlines()
    assert lines[3] == f"│ {'1' * 15}… │"


def test_a_width_below_twenty_is_twenty() -> None:
    assert mono(ROWS, width=3) == mono(ROWS, width=20)


def test_wide_and_combining_characters_keep_the_columns_aligned() -> None:
    lines = mono([["0", "数据", "fork"], ["1", "cafe\u0301", "fork"], ["2", "🚀", "fork"]])
    assert lines[3:6] == ["│  0 │ 数据 │ fork │", "│  1 │ cafe\u0301 │ fork │", "│  2 │ 🚀   │ fork │"]
    assert {display_width(line) for line in lines} == {display_width(lines[0])}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web", "web"),
        ("naïve 数据", "naïve 数据"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd\0", "a\\nb\\tc\\rd\\x00"),
        ("\x9b2J", "\\x9b2J"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("style", ["boxed", "mono", "plain"])
def test_no_cell_and_no_heading_brings_its_own_escapes(style: Style) -> None:
    evil = "a\x1b]0;owned\x07\n"
    text = render([Column(evil)], [[evil], [(evil, "red")]], width=80, style=style)
    text += key_value(evil, [(evil, evil)], width=80, style=style)
    assert "\x1b]" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("text", "room", "short"),
    [
        ("web", 3, "web"),
        ("worker", 3, "wo…"),
        ("worker", 1, "…"),
        ("数据库", 6, "数据库"),
        ("数据库", 5, "数据…"),
        ("数据库", 4, "数…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_shortening_counts_terminal_cells(text: str, room: int, short: str) -> None:
    assert shorten(text, room) == short


def test_key_value_shows_a_title_and_wraps_long_values() -> None:
    pairs: list[tuple[str, Cell]] = [("status", ("online", "green")), ("cwd", "/srv/" + "x" * 20)]
    assert key_value("web", pairs, width=30, style="mono").splitlines() == [
        "web",
        "┌────────┬───────────────────┐",
        "│ status │ online            │",
        "│ cwd    │ /srv/xxxxxxxxxxxx │",
        "│        │ xxxxxxxx          │",
        "└────────┴───────────────────┘",
    ]


def test_key_value_wraps_between_words_where_it_can() -> None:
    lines = key_value("web", [("cause", "it ended with code 1")], width=24, style="mono").splitlines()
    assert lines[2:4] == ["│ cause │ it ended    │", "│       │ with code 1 │"]


def test_key_value_colours_every_line_of_a_value() -> None:
    text = key_value("web", [("cwd", ("x" * 30, "red"))], width=30, style="boxed")
    assert text.startswith("\x1b[1mweb\x1b[0m\n")
    assert text.count("\x1b[31m") == 2


def test_key_value_in_plain_style_is_one_line_for_each_pair() -> None:
    pairs: list[tuple[str, Cell]] = [("Status", ("online", "green")), ("cause", ""), ("cwd", "/srv/" + "x" * 200)]
    assert key_value("web", pairs, width=20, style="plain").splitlines() == [
        "web",
        "status  online",
        "cause   -",
        "cwd     /srv/" + "x" * 200,
    ]


@pytest.mark.parametrize("style", ["boxed", "mono", "plain"])
def test_key_value_without_pairs_is_still_a_title(style: Style) -> None:
    assert "web" in key_value("web", [], width=80, style=style)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        yield stream
    os.close(ours)


def test_a_terminal_gets_boxes_in_its_width(terminal: TextIO) -> None:
    termios.tcsetwinsize(terminal.fileno(), (24, 132))
    assert screen(terminal) == (132, "boxed")


def test_a_terminal_that_says_it_has_no_columns_is_taken_to_have_80(terminal: TextIO) -> None:
    termios.tcsetwinsize(terminal.fileno(), (0, 0))
    assert screen(terminal) == (80, "boxed")


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colour_gets_none(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert screen(terminal)[1] == "mono"


def test_a_terminal_that_cannot_show_boxes_gets_plain_text(terminal: TextIO) -> None:
    with os.fdopen(os.dup(terminal.fileno()), "w", encoding="iso-8859-1") as latin:
        assert screen(latin) == (0, "plain")


def test_a_pipe_and_a_buffer_get_plain_text() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        assert screen(pipe) == (0, "plain")
    assert screen(io.StringIO()) == (0, "plain")

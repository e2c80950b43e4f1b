import re

from hypothesis import given, strategies as st

from pmx.cli.render.table import Cell, Column, Style, display_width, key_value, render, shorten, visible

COLOUR = re.compile(r"\x1b\[[0-9;]+m")

texts = st.text(max_size=40) | st.text(st.sampled_from("a数\u0301🚀 \x1b\n"), max_size=60)
cells = texts | st.tuples(texts, st.sampled_from(["", "red", "green", "dim"]))
columns = st.builds(Column, texts, st.sampled_from(["left", "right"]), st.booleans(), st.integers(0, 9))
tables = st.lists(columns, min_size=1, max_size=8).flatmap(
    lambda chosen: st.tuples(
        st.just(chosen), st.lists(st.lists(cells, min_size=len(chosen), max_size=len(chosen)), max_size=4)
    )
)
Table = tuple[list[Column], list[list[Cell]]]
pairs = st.lists(st.tuples(texts, cells), max_size=5)
boxes = st.sampled_from(["boxed", "mono"])


def widths(text: str) -> set[int]:
    return {display_width(line) for line in COLOUR.sub("", text).split("\n")}


@given(tables, st.integers(20, 200), boxes)
def test_a_box_is_a_rectangle_no_wider_than_the_terminal(table: Table, width: int, style: Style) -> None:
    (found,) = widths(render(*table, width=width, style=style))
    assert found <= width


@given(texts, pairs, st.integers(20, 200), boxes)
def test_a_sheet_is_no_wider_than_the_terminal(
    title: str, sheet: list[tuple[str, Cell]], width: int, style: Style
) -> None:
    assert max(widths(key_value(title, sheet, width=width, style=style))) <= width


@given(tables, st.integers(20, 200))
def test_the_only_escapes_on_a_terminal_are_our_colours(table: Table, width: int) -> None:
    text = render(*table, width=width, style="boxed")
    assert COLOUR.sub("", text).replace("\n", "").isprintable()


@given(tables, texts, pairs)
def test_plain_output_is_printable_lines(table: Table, title: str, sheet: list[tuple[str, Cell]]) -> None:
    for text in (render(*table, width=0, style="plain"), key_value(title, sheet, width=0, style="plain")):
        assert "\x1b" not in text
        assert text.replace("\n", "").isprintable()


@given(tables)
def test_plain_output_has_a_line_for_each_row_and_a_field_for_each_column(table: Table) -> None:
    chosen, rows = table
    lines = render(chosen, rows, width=0, style="plain").split("\n")
    assert len(lines) == len(rows) + 1
    for line in lines:
        assert len(re.split(" {2,}", line)) == len(chosen)


@given(texts, st.integers(1, 50))
def test_a_shortened_text_fits_and_is_a_beginning(text: str, room: int) -> None:
    text = visible(text)
    short = shorten(text, room)
    assert display_width(short) <= room
    assert text.startswith(short.removesuffix("…"))

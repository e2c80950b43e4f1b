"""Tails of files: what is there, what comes, and what others do to the file meanwhile."""

import os
from pathlib import Path

from hypothesis import given, settings, strategies as st

from pmx.client import follow
from pmx.client.follow import Source, Tail


def tail(path: Path) -> Tail:
    return Tail(Source(0, "web", "out", str(path)))


def texts(lines: object) -> list[str]:
    return [line.text for line in lines]  # type: ignore[attr-defined]  # an iterable of Line


def test_the_last_lines_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    count = 3 * follow._CHUNK // 10
    path.write_text("".join(f"{number:09d}\n" for number in range(count)))
    for wanted in (0, 1, 15, count - 1, count, count + 5):
        expected = [f"{number:09d}" for number in range(max(0, count - wanted), count)] if wanted else []
        reader = tail(path)
        assert texts(reader.last(wanted)) == expected
        assert texts(reader.more()) == []
        assert texts(reader.close()) == []


def test_an_empty_line_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content, expected in (("", []), ("\n", [""]), ("\n\n", ["", ""]), ("a\n\n", ["a", ""]), ("a", [])):
        path.write_text(content)
        reader = tail(path)
        assert texts(reader.last(5)) == expected
        list(reader.close())


def test_what_is_appended_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = tail(path)
    assert reader.last(10) == []
    assert texts(reader.more()) == []  # it is not there yet
    with path.open("w") as file:
        print("one", file=file, flush=True)
        assert texts(reader.more()) == ["one"]
        file.write("tw")
        file.flush()
        assert texts(reader.more()) == []
        file.write("o\r\nthree")
        file.flush()
        assert texts(reader.more()) == ["two"]
    assert texts(reader.close()) == ["three"]


def test_a_file_that_is_truncated_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old old old\n")
    reader = tail(path)
    assert texts(reader.last(5)) == ["old old old"]
    path.write_text("new\n")
    assert texts(reader.more()) == ["new"]
    assert texts(reader.close()) == []


def test_a_file_that_is_replaced_is_read_to_its_end_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\n")
    reader = tail(path)
    assert texts(reader.last(5)) == ["a"]
    with path.open("a") as file:
        file.write("b\nc without an end")
    os.rename(path, tmp_path / "log.1")
    path.write_text("d\n")
    assert texts(reader.more()) == ["b", "c without an end", "d"]
    assert texts(reader.close()) == []


def test_an_endless_line_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 * follow.LONGEST_LINE))
    reader = tail(path)
    pieces = texts(reader.more()) + texts(reader.close())
    assert "".join(pieces) == "x" * (3 * follow.LONGEST_LINE)
    assert len(pieces) > 1


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=20), st.data())
def test_however_it_is_written_the_lines_come_once_and_in_order(lines: list[str], data: st.DataObject) -> None:
    import tempfile

    whole = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        path.touch()
        reader = tail(path)
        reader.last(0)
        seen: list[str] = []
        with path.open("ab", buffering=0) as file:
            for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
                file.write(whole[start:end])
                seen += texts(reader.more())
        assert seen + texts(reader.close()) == lines

import pytest

from pmx.errors import UsageProblem
from pmx.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1500", 1.5),
        ("500ms", 0.5),
        ("10s", 10.0),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("1d", 86400.0),
        (" 10S ", 10.0),
    ],
)
def test_a_duration_is_milliseconds_or_has_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ten", "10x", "-5", "1.5", "1h 30m", "5s!", "10 s", "٣", "٣s", "1e3", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageProblem, match="cannot read the duration") as caught:
        parse_duration(text)
    assert "1h30m" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 64 * 1024),
        ("300M", 300 * 1024**2),
        ("300mb", 300 * 1024**2),
        ("1.5G", 3 * 512 * 1024**2),
        ("1GiB", 1024**3),
        ("2 T", 2 * 1024**4),
        ("12b", 12),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "10x", "-5", "5ib", "M", "1.G", "٣M", "1e3"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageProblem, match="cannot read the size") as caught:
        parse_size(text)
    assert "300M" in caught.value.hint


@pytest.mark.parametrize("digits", [16, 400, 5000])
def test_absurdly_long_numbers_are_refused_and_do_not_overflow(digits: int) -> None:
    for parse, unit in ((parse_duration, ""), (parse_duration, "d"), (parse_size, ""), (parse_size, "T")):
        with pytest.raises(UsageProblem):
            parse("9" * digits + unit)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0ms"),
        (0.0, "0ms"),
        (0.42, "420ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1.0, "1s"),
        (59.9, "59s"),
        (60.0, "1m"),
        (184.0, "3m 4s"),
        (3600.0, "1h"),
        (7500.0, "2h 5m"),
        (86400.0, "1d"),
        (273600.0, "3d 4h"),
    ],
)
def test_a_duration_is_shown_in_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0b"),
        (1023, "1023b"),
        (1024, "1.0kb"),
        (1536, "1.5kb"),
        (1024**2 - 1, "1.0mb"),
        (34 * 1024**2 + 200 * 1024, "34.2mb"),
        (1024**3 - 1, "1.0gb"),
        (1024**4, "1.0tb"),
        (5000 * 1024**4, "5000.0tb"),
    ],
)
def test_a_size_is_shown_as_pm2_shows_it(size: int, text: str) -> None:
    assert format_size(size) == text

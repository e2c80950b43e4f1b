import pytest
from hypothesis import given, strategies as st

from pmx.errors import UsageProblem
from pmx.units import format_duration, format_size, parse_duration, parse_size


@given(st.integers(0, 10**15 - 1))
def test_a_bare_number_is_milliseconds_and_bytes(number: int) -> None:
    assert parse_duration(str(number)) == number / 1000
    assert parse_size(str(number)) == number


@given(st.floats(0, 1e9))
def test_a_shown_duration_is_read_back_to_within_its_smaller_unit(seconds: float) -> None:
    shown = format_duration(seconds).replace(" ", "")
    slack = 0.001 if seconds < 1 else 1 if seconds < 3600 else 60 if seconds < 86400 else 3600
    assert parse_duration(shown) == pytest.approx(seconds, abs=slack)


@given(st.integers(0, 2**50))
def test_a_shown_size_is_read_back_to_within_its_last_digit(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.06)


@given(st.integers(0, 2**50), st.integers(0, 2**50))
def test_a_greater_size_is_never_shown_as_a_smaller_one(one: int, other: int) -> None:
    small, great = sorted((one, other))
    assert parse_size(format_size(small)) <= parse_size(format_size(great))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except UsageProblem as problem:
            assert problem.message.isprintable()


@given(st.floats(-1e9, 1e10))
def test_a_shown_duration_is_short(seconds: float) -> None:
    assert len(format_duration(seconds)) <= 12

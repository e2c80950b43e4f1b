import pytest

from pmx import errors
from pmx.errors import BY_CODE, INTERRUPTED, NotFound, PmxError, from_wire


def every_error() -> list[type[PmxError]]:
    return [PmxError, *PmxError.__subclasses__()]


def test_every_error_is_known_by_its_code() -> None:
    assert set(BY_CODE.values()) == set(every_error())
    assert all(BY_CODE[cls.code] is cls for cls in every_error())


def test_exit_statuses_are_distinct_and_none_means_success_or_a_signal() -> None:
    statuses = [cls.exit_status for cls in every_error()]
    assert len(set(statuses)) == len(statuses)
    assert all(0 < status < 126 for status in statuses)
    assert INTERRUPTED not in statuses


@pytest.mark.parametrize("cls", every_error())
def test_the_docstring_of_the_module_lists_every_status(cls: type[PmxError]) -> None:
    assert errors.__doc__ is not None
    assert any(
        {cls.__name__, str(cls.exit_status)} <= set(line.replace("──", " ").split())
        for line in errors.__doc__.splitlines()
    )


@pytest.mark.parametrize("cls", every_error())
def test_an_error_crosses_the_wire_unchanged(cls: type[PmxError]) -> None:
    sent = cls("cannot do it: it is late", "sleep")
    received = from_wire(sent.to_wire())
    assert type(received) is cls
    assert (received.message, received.hint, str(received)) == (sent.message, "sleep", sent.message)


def test_the_hint_is_optional() -> None:
    assert NotFound("cannot find it: it is gone").to_wire() == {
        "code": "not_found",
        "message": "cannot find it: it is gone",
        "hint": "",
    }


def test_an_unknown_code_becomes_the_plain_error() -> None:
    received = from_wire({"code": "from_the_future", "message": "cannot fly: no wings", "hint": "walk"})
    assert type(received) is PmxError
    assert (received.message, received.hint) == ("cannot fly: no wings", "walk")


def test_an_empty_description_is_still_an_error() -> None:
    assert from_wire({}).message == "unknown error"

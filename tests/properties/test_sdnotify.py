from hypothesis import given, strategies as st

from pmx.core.sdnotify import parse

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="=\n\0"), min_size=1, max_size=12)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), max_size=20)


@given(st.dictionaries(names, values, max_size=6))
def test_what_was_assigned_is_understood(fields: dict[str, str]) -> None:
    assert parse("\n".join(f"{name}={value}" for name, value in fields.items()).encode()) == fields


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"READY=1", b"=", b"\n", b"\0", b"\xff"])).map(b"".join))
def test_any_bytes_are_harmless(data: bytes) -> None:
    assert all(name and "\n" not in name + value for name, value in parse(data).items())

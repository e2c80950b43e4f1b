import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pmx.core.lifecycle import Policy
from pmx.core.restart import Exit, Record
from pmx.core.spec import AppSpec, Command, Identity, LogPolicy, RestartPolicy, StopPolicy, from_wire, to_wire

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(max_size=8)
numbers = st.integers(-(2**40), 2**40)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


restarts = st.builds(
    RestartPolicy,
    st.booleans(),
    *[finite if field != "max_restarts" else numbers for field in RestartPolicy.__slots__[1:-1]],
    tuples(numbers),
)
stops = st.builds(StopPolicy, text, finite, st.booleans())
identities = st.builds(Identity, st.none() | numbers, st.none() | numbers, st.none() | tuples(numbers))
commands = st.builds(
    Command,
    tuples(text),
    text,
    st.dictionaries(text, text, max_size=3),
    text,
    text,
    numbers,
    identities,
    tuples(st.tuples(text, numbers, numbers)),
)
specs = st.builds(
    AppSpec, text, commands, text, numbers, restarts, stops, st.builds(LogPolicy, text, text), instance_var=text
)
values = (
    specs
    | commands
    | restarts
    | stops
    | identities
    | st.builds(Policy, restarts, stops)
    | st.builds(Record, tuples(finite), numbers)
    | st.builds(Exit, st.none() | numbers, text, text, finite)
)
plain = st.recursive(
    st.none() | st.booleans() | numbers | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(values)
def test_what_is_sent_is_what_arrives(value: Any) -> None:
    assert from_wire(type(value), json.loads(json.dumps(to_wire(value)))) == value


@settings(deadline=None)
@given(specs, st.dictionaries(st.text(min_size=13, max_size=20), plain, max_size=3))
def test_keys_of_the_future_change_nothing(spec: AppSpec, future: dict[str, Any]) -> None:
    data = json.loads(json.dumps(to_wire(spec)))
    for part in (data, data["command"], data["restart"], data["command"]["identity"]):
        part.update({f"{key}!": value for key, value in future.items()})
    assert from_wire(AppSpec, data) == spec


@settings(deadline=None, max_examples=300)
@given(specs, st.data())
def test_what_is_not_of_its_type_is_a_type_error_or_was_right(spec: AppSpec, data: st.DataObject) -> None:
    """Any value in any place: what is accepted has the types it claims, so that it survives the wire again."""
    sent = json.loads(json.dumps(to_wire(spec)))
    part = data.draw(
        st.sampled_from([sent, sent["command"], sent["restart"], sent["stop"], sent["command"]["identity"]])
    )
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(plain)
    try:
        received = from_wire(AppSpec, sent)
    except TypeError as error:
        assert str(error)
        return
    assert from_wire(AppSpec, json.loads(json.dumps(to_wire(received)))) == received
    assert all(isinstance(value, str) for value in received.command.env.values())


@settings(deadline=None)
@given(plain)
def test_only_an_object_is_a_spec(data: Any) -> None:
    with pytest.raises(TypeError):
        from_wire(AppSpec, data)


@settings(deadline=None)
@given(specs, st.dictionaries(text, st.just("s3cret"), min_size=1, max_size=3))
def test_no_environment_is_ever_shown(spec: AppSpec, env: dict[str, str]) -> None:
    command = Command(spec.command.argv, "/", env)
    assert "s3cret" not in repr(AppSpec("a", command)) + str(command)

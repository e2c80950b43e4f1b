"""What YAML means here, where everything stands, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from pmx.config.yamlfile import DEEPEST, LARGEST_FILE, Document, Place, parse, read
from pmx.errors import UsageProblem


def data(text: str) -> Any:
    return parse(text, "f.yaml").data


def refusal(text: str) -> str:
    with pytest.raises(UsageProblem) as caught:
        parse(text, "f.yaml")
    assert caught.value.hint == "nothing was started"
    return caught.value.message.removeprefix("cannot use f.yaml: ")


# --- meaning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("No", "No"), ("y", "y"), ("1:30", "1:30"), ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"), ("<<", "<<"), ("=", "="), ("0b11", "0b11"), ("Infinity", "Infinity"),
        ("012", 12), ("+7", 7), ("-7", -7), ("0o17", 15), ("0x1F", 31), ("8000", 8000),
        ("1.10", 1.1), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-1", -0.15),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
        ("null", None), ("~", None), ("", None), ("'null'", "null"), ('"12"', "12"), ("!!str 12", "12"),
        ('!!int "12"', 12), ('""', ""), ("|\n  a\n  b\n", "a\nb\n"), ("# only a comment", None), ("---\n...\n", None),
    ],
)  # fmt: skip
def test_a_word_means_what_yaml_1_2_says(text: str, meaning: Any) -> None:
    found = data(text)
    assert (found, type(found)) == (meaning, type(meaning))


def test_infinities_and_nan() -> None:
    assert data("[.inf, -.Inf]") == [math.inf, -math.inf]
    assert math.isnan(data(".NaN"))


def test_a_key_is_the_text_that_stands_there() -> None:
    assert data("{on: 1, 80: 2, true: 3, ~: 4, 1.10: 5}") == {"on": 1, "80": 2, "true": 3, "~": 4, "1.10": 5}


def test_anchors_aliases_and_merges() -> None:
    text = """
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
one: {<<: *base, b: 5}
two: {b: 6, <<: [*base, *more]}
three: [*base, *base]
"""
    found = data(text)
    assert found["one"] == {"a": 1, "b": 5}
    assert found["two"] == {"a": 1, "b": 6, "c": 4}
    assert found["three"] == [{"a": 1, "b": 2}] * 2


def test_json_with_tabs_and_pairs_of_surrogates() -> None:
    assert data('{\n\t"a":\t[1,\t2],\t\n\t"\\ud83d\\ude00": "\\/"\n}\n') == {"a": [1, 2], "😀": "/"}


def test_a_tab_between_key_and_value() -> None:
    assert data("a:\t1\nb: x\t# comment\n") == {"a": 1, "b": "x"}


# --- places -------------------------------------------------------------------------------------------------

TEXT = """\
# comment
apps:
  - name: web
    env: {V: 1.10, ON: true, S: '1'}
  - &worker
    name: worker
  - <<: *worker
    args: [a, 2]
"""


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [
        ((), False, (2, 1)),
        (("apps",), True, (2, 1)),
        (("apps",), False, (3, 3)),
        (("apps", 0), False, (3, 5)),
        (("apps", 0, "name"), True, (3, 5)),
        (("apps", 0, "name"), False, (3, 11)),
        (("apps", 0, "env", "ON"), True, (4, 20)),
        (("apps", 0, "env", "ON"), False, (4, 24)),
        (("apps", 2, "name"), True, (6, 5)),
        (("apps", 2, "args", 1), False, (8, 15)),
        (("apps", 0, "cwd", "x"), True, (3, 5)),
    ],
)
def test_everything_has_a_place(path: tuple[str | int, ...], key: bool, place: tuple[int, int]) -> None:
    assert parse(TEXT, "f").place(path, key=key) == Place(*place)


def test_bare_words_are_kept_as_they_are_written() -> None:
    document = parse(TEXT, "f")
    written = [document.written(("apps", 0, "env", name)) for name in ("V", "ON", "S", "missing")]
    assert written == ["1.10", "true", None, None]


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1", "the key 'a' is here twice: it is in line 1 already"),
        ("a: [1, 2", "1:9", "this is not YAML: expected ',' or ']'"),
        ("a: b: c", "1:5", "mapping values are not allowed here"),
        ("a:\n\tb: 1", "2:1", "a tab cannot indent: use spaces"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document begins here"),
        ("a: *nobody", "1:4", "undefined alias"),
        ("a: &a [*a]", "1:4", "this contains itself"),
        ("&a {<<: *a}", "1:1", "this contains itself"),
        ("a: !!python/object/apply:os.system [ls]", "1:4", "the tag !!python/object/apply:os.system does not fit"),
        ("!mine 1", "1:1", "the tag !mine does not fit"),
        ("!!int x", "1:1", "the tag !!int does not fit"),
        ("!!set {a: 1}", "1:1", "the tag !!set does not fit"),
        ("{!!binary aa: 1}", "1:2", "the tag !!binary does not fit"),
        ("[a, b]: 1", "1:1", "a key must be a word"),
        ("<<: 5", "1:5", "<< needs a mapping"),
        ("a: x\x00", "1:5", 'write it as "\\u0000"'),
        ("a:\n  'b\u2028'", "2:5", 'write it as "\\u2028"'),
        ('"\\ud800"', "1:1", "half a character"),
        ('a: "\\UFFFFFFFF"', "1:7", "no character of that number"),
        ("9" * 5000, "1:1", "this number is too long"),
        ("[" * 1000, f"1:{DEEPEST + 1}", "nested more than"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_why(text: str, place: str, why: str) -> None:
    message = refusal(text)
    assert message.startswith(f"f.yaml:{place}: "), message
    assert why in message


def test_several_problems_come_at_once_in_the_order_of_the_file() -> None:
    lines = refusal("a: !x 1\nb: 2\nb: 3\nc: {d: 1, d: 2}\n").splitlines()
    assert lines[0] == "3 problems"
    assert [line.strip().split(": ")[0] for line in lines[1:]] == ["f.yaml:1:4", "f.yaml:3:1", "f.yaml:4:11"]


def _bomb(link: str) -> str:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{n}: &a{n} " + link.replace("*", f"*a{n - 1}") for n in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize("link", ["[*, *, *]", "{p: *, q: *}", "{<<: [*, *, *]}"])
def test_aliases_of_aliases_do_not_explode(link: str) -> None:
    assert "this grows too large" in refusal(_bomb(link))


def test_a_long_chain_of_aliases_is_too_deep() -> None:
    chain = "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))
    assert "this grows too large" in refusal("a0: &a0 1\n" + chain)


# --- files --------------------------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ecosystem.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\n")
    assert read(str(file)) == Document(
        str(file), {"a": "ä"}, {(): parse("", "").spots[()], ("a",): parse("a: ä", "").spots[("a",)]}
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    with pytest.raises(UsageProblem, match=r"cannot read .*f\.yaml: No such file"):
        read(str(file))
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(UsageProblem, match=r"f\.yaml:2:4: this is not UTF-8"):
        read(str(file))
    file.write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(UsageProblem, match="it is larger than 1 MiB"):
        read(str(file))


# --- properties ---------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(PLAIN, st.sampled_from([None, 2, "\t"]))
@example({"<<": 1, "~": None, "a: b": "# no"}, None)
def test_json_is_read_back_as_what_it_was(plain: Any, indent: int | str | None) -> None:
    assert repr(data(json.dumps(plain, indent=indent))) == repr(plain)


FRAGMENTS = st.sampled_from([
    "&a ", "*a", "<<", ": ", "- ", "? ", "[", "]", "{", "}", ",", "\n", "  ", "\t", "'", '"', "\\", "|", ">-", "!",
    "!!", "%YAML 1.", "%TAG ! ", "---", "...", "#", "\\U", "FFFF", "0x", "true", "a", "9", "\r", "\x85", "\ufeff",
    "!<", "%ff",
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.text() | st.lists(FRAGMENTS, max_size=30).map("".join) | st.text("[]{}:-?&*!|>'\"%@`\\ \n\ta1", max_size=40))
@example("%YAML 1." + "9" * 5000 + "\n--- a")
@example("!<tag:yaml.org,2002:merge> x: 1")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text, "f.yaml")
    except UsageProblem as problem:
        assert "f.yaml:" in problem.message

import pytest

from pmx.core.fleet import LONGEST_NAME, MAX_INSTANCES, Entry, check_name, free_numbers, scaled, select
from pmx.errors import NotFound, UsageProblem

FLEET = (
    Entry(0, "web", "shop"),
    Entry(1, "web", "shop"),
    Entry(2, "worker", "shop"),
    Entry(3, "mail", "office"),
    Entry(7, "3", "office"),
)


@pytest.mark.parametrize(
    ("selectors", "ids"),
    [
        ([], []),
        (["all"], [0, 1, 2, 3, 7]),
        (["web"], [0, 1]),
        (["shop"], [0, 1, 2]),
        (["2"], [2]),
        (["/^w/"], [0, 1, 2]),
        (["/o.k/"], [2]),
        (["mail", "web"], [0, 1, 3]),
        (["web", "shop", "1"], [0, 1, 2]),
    ],
)
def test_selectors_are_united_in_the_order_of_the_list(selectors: list[str], ids: list[int]) -> None:
    assert select(FLEET, selectors) == ids


def test_a_name_hides_an_id_and_a_namespace() -> None:
    assert select(FLEET, ["3"]) == [7]
    assert select((*FLEET, Entry(9, "shop", "x")), ["shop"]) == [9]


def test_a_namespace_hides_an_id() -> None:
    assert select((Entry(0, "a", "1"), Entry(1, "b", "x")), ["1"]) == [0]


def test_an_id_is_written_as_it_is_shown() -> None:
    with pytest.raises(NotFound):
        select(FLEET, ["002"])


def test_all_of_nothing_is_nothing() -> None:
    assert select([], ["all"]) == []


def test_what_matches_nothing_is_told_with_the_nearest_names() -> None:
    with pytest.raises(NotFound) as caught:
        select(FLEET, ["web", "wbe"])
    assert caught.value.message == "cannot find a program called 'wbe': nothing has that name, namespace or id"
    assert caught.value.hint == "did you mean 'web'?"


def test_namespaces_are_suggested_as_well() -> None:
    with pytest.raises(NotFound) as caught:
        select(FLEET, ["ofice"])
    assert caught.value.hint == "did you mean 'office'?"


def test_without_a_near_name_the_hint_is_the_list() -> None:
    with pytest.raises(NotFound) as caught:
        select(FLEET, ["zzz"])
    assert "pmx ls" in caught.value.hint


def test_without_programs_the_hint_is_how_to_start_one() -> None:
    with pytest.raises(NotFound) as caught:
        select([], ["web"])
    assert "pmx start" in caught.value.hint


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(NotFound) as caught:
        select(FLEET, ["/^x/"])
    assert caught.value.message == "cannot find a program that matches '/^x/': no name does"


@pytest.mark.parametrize("selector", ["/(/", "/[/", "/*/"])
def test_a_pattern_that_is_none(selector: str) -> None:
    with pytest.raises(UsageProblem, match="cannot use the selector"):
        select(FLEET, [selector])


def test_an_empty_pattern_does_not_mean_everything() -> None:
    with pytest.raises(UsageProblem, match="the pattern is empty"):
        select(FLEET, ["//"])


def test_a_lone_slash_is_only_an_odd_name() -> None:
    with pytest.raises(NotFound):
        select(FLEET, ["/"])


def test_a_message_shows_neither_control_characters_nor_a_novel() -> None:
    with pytest.raises(NotFound) as caught:
        select(FLEET, ["\x1b[31m" + "x" * 5000])
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", ["web", "web-1", "3", "my app", "café 数据", "x" * LONGEST_NAME, "allowed", "a\\b"])
def test_names_that_are_fine(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("all", "it means every program"),
        ("a/b", "it contains a slash"),
        ("a\nb", "a character that cannot be shown"),
        ("a\x1b[0m", "a character that cannot be shown"),
        ("a\u202eb", "a character that cannot be shown"),
        ("-x", "it would be taken for an option"),
        ("x" * (LONGEST_NAME + 1), "it is longer than 100 characters"),
    ],
)
def test_names_that_are_refused(name: str, why: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        check_name(name)
    assert caught.value.message.startswith("cannot use the name ")
    assert caught.value.message.endswith(why)
    assert caught.value.message.isprintable()


# --- how many -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "number"),
    [
        ("4", 4),
        ("1", 1),
        ("+2", 5),
        ("-1", 2),
        ("-2", 1),
        ("+0", 3),
        ("-0", 3),
        ("max", 8),
        ("007", 7),
        ("10000", MAX_INSTANCES),
    ],
)
def test_scaling_three(to: str, number: int) -> None:
    assert scaled("web", 3, to, cores=8) == number


@pytest.mark.parametrize("to", ["", "many", "+", "1.5", "Max", "--1", "+-1", " 4", "4\n", "²", "9" * 5000, "None"])
def test_what_is_no_number_to_scale_to(to: str) -> None:
    with pytest.raises(UsageProblem, match=r"cannot scale web to .*: it is no number") as caught:
        scaled("web", 3, to, cores=8)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("to", ["0", "-3", "-10"])
def test_scaling_leaves_one(to: str) -> None:
    with pytest.raises(UsageProblem, match="one must be left") as caught:
        scaled("web", 3, to, cores=8)
    assert "pmx stop web" in caught.value.hint
    assert "pmx delete web" in caught.value.hint


@pytest.mark.parametrize("to", [str(MAX_INSTANCES + 1), f"+{MAX_INSTANCES}"])
def test_scaling_has_an_end(to: str) -> None:
    with pytest.raises(UsageProblem, match=f"{MAX_INSTANCES} is the most"):
        scaled("web", 3, to, cores=8)


@pytest.mark.parametrize(
    ("taken", "count", "numbers"),
    [([], 2, [0, 1]), ([0, 1], 2, [2, 3]), ([1, 3], 3, [0, 2, 4]), ([5], 1, [0]), ([0], 0, []), ([2, 0], 1, [1])],
)
def test_free_numbers(taken: list[int], count: int, numbers: list[int]) -> None:
    assert free_numbers(taken, count) == numbers

from hypothesis import given, strategies as st

from pmx.core.fleet import MAX_INSTANCES, Entry, check_name, free_numbers, scaled, select
from pmx.errors import NotFound, UsageProblem

words = st.sampled_from(["web", "api", "db", "mail", "3", "7", "shop"])
fleets = st.lists(st.builds(Entry, st.integers(0, 50), words, words), unique_by=lambda entry: entry.id, max_size=12)


@given(fleets, st.lists(words | st.sampled_from(["all", "/w/", "/./", "0", "50"]), max_size=4))
def test_the_answer_keeps_the_order_of_the_list_and_repeats_nothing(fleet: list[Entry], selectors: list[str]) -> None:
    try:
        ids = select(fleet, selectors)
    except NotFound:
        return
    assert ids == [entry.id for entry in fleet if entry.id in ids]


@given(fleets)
def test_every_entry_is_found_by_its_name(fleet: list[Entry]) -> None:
    for entry in fleet:
        assert select(fleet, [entry.name]) == [other.id for other in fleet if other.name == entry.name]


@given(fleets, st.lists(words, max_size=3), st.lists(words, max_size=3))
def test_more_selectors_mean_the_union(fleet: list[Entry], some: list[str], others: list[str]) -> None:
    try:
        both = select(fleet, some + others)
    except NotFound:
        return
    assert set(both) == set(select(fleet, some)) | set(select(fleet, others))


@given(fleets, st.text())
def test_any_text_selects_or_is_told_in_a_printable_sentence(fleet: list[Entry], selector: str) -> None:
    try:
        select(fleet, [selector])
    except (NotFound, UsageProblem) as error:
        assert error.message.startswith("cannot ")
        assert error.message.isprintable()


@given(st.text(min_size=1, max_size=110))
def test_an_accepted_name_selects_its_program(name: str) -> None:
    try:
        check_name(name)
    except UsageProblem as error:
        assert error.message.isprintable()
        return
    fleet = [Entry(0, "other", name), Entry(1, name, "default")]
    assert select(fleet, [name]) == ([0, 1] if name == "other" else [1])


@given(st.integers(1, MAX_INSTANCES), st.text(alphabet="+-0123456789max", max_size=8), st.integers(1, 512))
def test_scaling_has_a_possible_outcome_or_is_told(now: int, to: str, cores: int) -> None:
    try:
        number = scaled("web", now, to, cores)
    except UsageProblem as error:
        assert error.message.startswith("cannot scale web to ")
        assert error.hint
        return
    assert 1 <= number <= MAX_INSTANCES
    if to[0] in "+-":
        assert number - now == int(to)
    else:
        assert number == (cores if to == "max" else int(to))


@given(st.sets(st.integers(0, 60), max_size=30), st.integers(0, 30))
def test_free_numbers_are_the_lowest_that_are_free(taken: set[int], count: int) -> None:
    found = free_numbers(taken, count)
    assert len(found) == count
    assert found == sorted(set(found) - taken)
    if found:
        assert set(range(found[-1])) <= taken | set(found)

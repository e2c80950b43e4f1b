import pytest

from pmx.core.spec import AppSpec, Command, RestartPolicy, StopPolicy
from pmx.daemon.fleet import HISTORY, App, Fleet, policy_of
from pmx.errors import NotFound


def app(name: str, instances: int = 1, namespace: str = "default") -> App:
    return App(AppSpec(name, Command(("/bin/true",), "/"), namespace, instances), 12.5)


def ids(fleet: Fleet) -> dict[str, list[int]]:
    return {name: [instance.id for instance in each.instances] for name, each in fleet.apps.items()}


def test_ids_and_numbers_grow() -> None:
    fleet = Fleet()
    fleet.add(app("web", 3))
    fleet.add(app("db"))
    assert ids(fleet) == {"web": [0, 1, 2], "db": [3]}
    assert [instance.number for instance in fleet.apps["web"].instances] == [0, 1, 2]
    assert [instance.key for instance in fleet.instances()] == ["0", "1", "2", "3"]


def test_an_id_is_not_given_twice_until_nothing_is_left() -> None:
    fleet = Fleet()
    fleet.add(app("web", 2))
    fleet.remove(fleet.by_id[1])
    fleet.add(app("db"))
    assert ids(fleet) == {"web": [0], "db": [2]}
    for instance in fleet.instances():
        fleet.remove(instance)
    assert (fleet.apps, fleet.by_id) == ({}, {})
    fleet.add(app("new"))
    assert ids(fleet) == {"new": [0]}


def test_ids_may_be_taken_over_and_new_ones_follow() -> None:
    fleet = Fleet()
    fleet.add(app("web", 3), reuse=[7, 4])
    assert ids(fleet) == {"web": [7, 4, 8]}
    assert fleet.next_id == 9


def test_an_application_goes_with_its_last_instance() -> None:
    fleet = Fleet()
    fleet.add(app("web", 2))
    fleet.remove(fleet.by_id[0])
    assert ids(fleet) == {"web": [1]}
    fleet.remove(fleet.by_id[1])
    assert fleet.apps == {}


def test_an_instance_is_found_by_the_keepers_name_for_it() -> None:
    fleet = Fleet()
    fleet.add(app("web", 2))
    assert fleet.find("1") is fleet.by_id[1]
    for key in ("2", "", "web", "-1", "1x"):
        assert fleet.find(key) is None


def test_selectors_are_names_namespaces_and_ids() -> None:
    fleet = Fleet()
    fleet.add(app("web", 2, "shop"))
    fleet.add(app("db", 1, "shop"))
    fleet.add(app("cron"))
    for selectors, expected in (
        (["web"], [0, 1]),
        (["shop"], [0, 1, 2]),
        (["3", "db"], [2, 3]),
        (["all"], [0, 1, 2, 3]),
    ):
        assert [instance.id for instance in fleet.select(selectors)] == expected
    with pytest.raises(NotFound):
        fleet.select(["nobody"])


def test_a_new_instance_follows_its_policy_and_remembers_so_much() -> None:
    restart, stop = RestartPolicy(max_restarts=3), StopPolicy(kill_timeout=2)
    spec = AppSpec("web", Command(("/bin/true",), "/"), restart=restart, stop=stop)
    fleet = Fleet()
    fleet.add(App(spec, 0.0))
    instance = fleet.by_id[0]
    assert instance.machine.policy == policy_of(spec)
    assert (instance.machine.policy.restart, instance.machine.policy.stop) == (restart, stop)
    for number in range(HISTORY + 5):
        instance.history.append({"run": number})
    assert [change["run"] for change in instance.history] == list(range(5, HISTORY + 5))


def test_instances_differ_in_their_salt() -> None:
    fleet = Fleet()
    fleet.add(app("web", 4))
    assert len({instance.machine.salt for instance in fleet.instances()}) == 4


def test_growing_fills_the_numbers_and_gives_new_ids() -> None:
    fleet = Fleet()
    web = app("web", 3)
    fleet.add(web)
    fleet.add(app("db"))
    fleet.remove(fleet.by_id[1])
    assert web.spec.instances == 2
    grown = fleet.grow(web, 2)
    assert [(instance.id, instance.number) for instance in grown] == [(4, 1), (5, 3)]
    assert [(instance.id, instance.number) for instance in web.instances] == [(0, 0), (4, 1), (2, 2), (5, 3)]
    assert web.spec.instances == 4
    assert [fleet.by_id[instance.id] for instance in grown] == grown
    assert len({instance.machine.salt for instance in fleet.instances()}) == 5
    fleet.add(app("new"))
    assert ids(fleet)["new"] == [6]


def test_a_spec_says_how_many_instances_there_are() -> None:
    fleet = Fleet()
    web = app("web", 2)
    fleet.add(web)
    assert fleet.grow(web, 0) == []
    assert web.spec.instances == 2
    fleet.remove(fleet.by_id[0])
    assert web.spec.instances == 1
    fleet.remove(fleet.by_id[1])
    assert web.spec.instances == 1  # there is none of no instance

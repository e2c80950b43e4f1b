from pmx.wire import topics


def test_a_prefix_selects_one_instance_and_no_other() -> None:
    assert topics.process(1).startswith(topics.PROCESS)
    assert topics.log(1).startswith(topics.LOG)
    assert not topics.process(11).startswith(topics.process(1))
    assert not topics.log(11).startswith(topics.log(1))

from typing import get_args

from pmx.daemon.commands import VERBS
from pmx.wire import messages
from pmx.wire.messages import VERSION, Answer, Failure, Progress, Reply, Request


def test_every_message_carries_the_version() -> None:
    for message in (Request("1", "ls", {}), Reply("1", None), Failure("1", {}), Progress("1", "")):
        assert message.version == VERSION


def test_the_text_at_the_top_names_the_present_version_and_every_verb() -> None:
    assert messages.__doc__ is not None
    words = messages.__doc__.replace(";", " ").replace(".", " ").split()
    assert str(VERSION) in words
    assert set(VERBS) <= set(words)
    assert {cls.__name__.lower() for cls in (Request, *get_args(Answer))} <= set(words)

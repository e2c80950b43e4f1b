"""pmx ping: a sign of life."""

from pmx.cli.ask import ask


def fast() -> None:
    answer = ask("ping")
    print(f"pong from the daemon (pid {answer['pid']}, keeper {answer['keeper']}) in {answer['home']}")

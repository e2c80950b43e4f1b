"""pmx logs: the last lines of output, then what comes."""

import sys
from typing import Annotated

import typer

from pmx import paths
from pmx.cli.ask import ask
from pmx.cli.render.table import paint, screen, visible
from pmx.client.follow import Bell, Line, Source, Tail
from pmx.errors import NotFound

_COLOURS = ("cyan", "green", "yellow")


def command(
    selectors: Annotated[list[str] | None, typer.Argument(help="Names, ids, namespaces, /regex/; default all.")] = None,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines of each file.")] = 15,
    nostream: Annotated[bool, typer.Option("--nostream", help="Show them and end; do not follow.")] = False,
    err: Annotated[bool, typer.Option("--err", help="Only standard error.")] = False,
    out: Annotated[bool, typer.Option("--out", help="Only standard output.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The lines alone, without id and name.")] = False,
) -> None:
    streams = [stream for stream, wanted in (("out", out or not err), ("error", err or not out)) if wanted]
    viewer = Viewer(selectors or ["all"], streams, raw)
    viewer.history(lines)
    if not nostream:
        viewer.follow()


class Viewer:
    """The files of the chosen programs, on standard output."""

    def __init__(self, selectors: list[str], streams: list[str], raw: bool) -> None:
        self._selectors = selectors
        self._streams = streams
        self._raw = raw
        self._style = screen(sys.stdout)[1]
        self._tails: dict[str, Tail] = {}

    def history(self, count: int) -> None:
        """The last `count` lines of each file, file by file."""
        for tail in self._new_tails():
            for line in tail.last(count):
                self._print(line)
        sys.stdout.flush()

    def follow(self) -> None:
        """What comes, until Ctrl-C."""
        if not self._tails and sys.stderr.isatty():
            print("no programs yet: what they print will show here; Ctrl-C ends", file=sys.stderr)
        bell = Bell(paths.find())
        try:
            while True:
                for tail in self._tails.values():
                    for line in tail.more():
                        self._print(line)
                sys.stdout.flush()
                if bell.wait():
                    self._new_tails()
        finally:
            bell.close()

    def _new_tails(self) -> list[Tail]:
        """Ask which files there are; returns those that were not known, which are read from their beginning."""
        fresh = []
        try:
            answer = ask("logs", {"selectors": self._selectors})
        except NotFound:
            if self._tails:
                return []  # deleted while we follow; somebody may start it again
            raise
        for each in answer:
            for stream in self._streams:
                path = each["out_file"] if stream == "out" else each["error_file"]
                if path not in self._tails and path not in ("/dev/null", "NULL"):
                    self._tails[path] = Tail(Source(each["id"], each["name"], stream, path))
                    fresh.append(self._tails[path])
        return fresh

    def _print(self, line: Line) -> None:
        if self._raw:
            print(line.text)
            return
        source = line.source
        colour = "red" if source.stream == "error" else _COLOURS[source.id % len(_COLOURS)]
        print(f"{paint(f'{source.id}|{visible(source.name)} |', colour, self._style)} {line.text}")

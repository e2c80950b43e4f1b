"""Processor and memory use of programs, sampled when somebody looks: nobody looking costs nothing."""

from collections.abc import Iterable
from typing import NamedTuple

import psutil

from pmx.daemon.clock import wall

FRESH = 1.0
"""Seconds for which a sample is shown again instead of being taken anew."""


class Usage(NamedTuple):
    cpu: float  # percent of one core, since the sample before; since its start for the first
    memory: int  # resident bytes of the main process


class _Sample(NamedTuple):
    at: float
    seconds: float
    usage: Usage


class Metrics:
    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}
        self._samples: dict[int, _Sample] = {}

    def look(self, pids: Iterable[int], now: float) -> dict[int, Usage]:
        """The use of each of `pids` that lives. `now` is monotonic. Forgets all others."""
        wanted = set(pids)
        for pid in self._processes.keys() - wanted:
            del self._processes[pid]
            self._samples.pop(pid, None)
        return {pid: usage for pid in wanted if (usage := self._of(pid, now)) is not None}

    def _of(self, pid: int, now: float) -> Usage | None:
        last = self._samples.get(pid)
        if last is not None and now - last.at < FRESH:
            return last.usage
        try:
            process = self._processes.get(pid) or self._processes.setdefault(pid, psutil.Process(pid))
            times, memory = process.cpu_times(), process.memory_info().rss
            seconds = times.user + times.system
            before = last.seconds if last else 0.0
            span = now - last.at if last else max(wall() - process.create_time(), FRESH)
        except psutil.Error:
            self._processes.pop(pid, None)
            self._samples.pop(pid, None)
            return None
        usage = Usage(round(max(0.0, seconds - before) / span * 100, 1), memory)
        self._samples[pid] = _Sample(now, seconds, usage)
        return usage

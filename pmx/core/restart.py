"""The rule that answers: it ended by itself, what now?

Three verdicts: it is **completed** (done, as wanted), it is **errored** (given up, with the reason), or it is
started **again** after a delay. PM2's limit has a hole (crashes stop counting 16 s after creation; a restart_delay
of min_uptime or more means they never count). Here a crash is any run shorter than `min_uptime`, and by default it
counts until a run was sound for `reset_after`: no clock runs against the limit, so whatever passes between two
crashes (a delay, an exec that hangs, children that will not die, a daemon that is away), it is always reached.

Jitter is deterministic: a Weyl sequence over (salt, run) spreads a crowd as evenly as chance would, and a
simulation of the same history gives the same answer.
"""

from dataclasses import dataclass

from pmx.core.spec import RestartPolicy

_GOLDEN = 0.6180339887498949
_PLASTIC = 0.7548776662466927


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. `code` or `signal` (a name) is set; neither when the status is unknown or nothing ran."""

    code: int | None = None
    signal: str = ""
    error: str = ""
    uptime: float = 0.0

    def words(self) -> str:
        if self.error:
            return self.error
        if self.signal:
            return f"killed by {self.signal}"
        return "ended with an unknown status" if self.code is None else f"exited with code {self.code}"


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of earlier crashes: when they were (seconds, monotonic), and the length of the streak."""

    crashes: tuple[float, ...] = ()
    streak: int = 0


@dataclass(frozen=True, slots=True)
class Completed:
    why: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    why: str


@dataclass(frozen=True, slots=True)
class Again:
    delay: float
    record: Record
    why: str


Verdict = Completed | GivenUp | Again


def decide(policy: RestartPolicy, record: Record, ended: Exit, now: float, salt: int) -> Verdict:
    """What follows a run that ended unasked. `salt` tells instances apart, so that their delays differ."""
    if ended.code is not None and ended.code in policy.stop_exit_codes:
        return Completed(f"{ended.words()}, one of stop_exit_codes")
    if not policy.autorestart:
        return Completed(ended.words()) if ended.code == 0 else GivenUp(f"{ended.words()}, and autorestart is off")
    crashed = ended.uptime < policy.min_uptime
    if ended.uptime >= policy.reset_after and not crashed:
        record = Record()
    crashes = _recent(policy, record.crashes, now) + ((now,) if crashed else ())
    if crashed and 0 <= policy.max_restarts < len(crashes):
        return GivenUp(f"{ended.words()}; crash {len(crashes)} {_span(policy)}")
    wait = delay(policy, record.streak, crashed, salt)
    return Again(wait, Record(crashes, record.streak + 1), ended.words())


def delay(policy: RestartPolicy, streak: int, crashed: bool, salt: int) -> float:
    """Seconds to wait. The first restart after a sound run is immediate: there is nothing to be careful about yet."""
    if policy.restart_delay > 0:
        return policy.restart_delay
    if streak == 0 and not crashed:
        return 0.0
    try:
        plain = min(policy.backoff_max, policy.backoff_initial * policy.backoff_factor**streak)
    except OverflowError:  # a streak of thousands, or an absurd factor
        plain = policy.backoff_max
    return plain * (1 - policy.backoff_jitter * jitter(salt, streak))


def jitter(salt: int, run: int) -> float:
    """A number in [0, 1), the same for the same arguments."""
    return (salt * _GOLDEN + run * _PLASTIC) % 1.0


def _recent(policy: RestartPolicy, crashes: tuple[float, ...], now: float) -> tuple[float, ...]:
    if policy.max_restarts < 0:
        return ()  # nothing is counted, so nothing needs to be kept
    if policy.restart_window <= 0:
        return crashes
    return tuple(at for at in crashes if at > now - policy.restart_window)


def _span(policy: RestartPolicy) -> str:
    if policy.restart_window > 0:
        return f"within {policy.restart_window:g} s"
    return f"without a run of {max(policy.reset_after, policy.min_uptime):g} s in between"

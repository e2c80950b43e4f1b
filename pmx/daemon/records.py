"""What the daemon says of an instance, as plain data. No secrets: of the environment only its size is told."""

import os
from pwd import getpwuid

from pmx.core.lifecycle import Changed, Phase
from pmx.core.spec import to_wire
from pmx.daemon.fleet import Instance
from pmx.daemon.metrics import Usage
from pmx.daemon.sharing import shares, slot_of
from pmx.daemon.traffic import Traffic
from pmx.paths import Home

Record = dict[str, object]


def brief(instance: Instance, usage: Usage | None, traffic: Traffic | None, now: float) -> Record:
    """A row of `pmx ls`. Durations in seconds, memory in bytes, cpu in percent of one core."""
    machine, spec = instance.machine, instance.app.spec
    online = machine.phase is Phase.ONLINE
    backoff = machine.phase is Phase.BACKOFF and machine.deadline is not None
    return {
        "id": instance.id,
        "name": spec.name,
        "namespace": spec.namespace,
        "instance": instance.number,
        "mode": "cluster" if shares(instance.app) and not instance.serving.unshared else "fork",
        "status": machine.phase.value,
        "wanted": machine.wanted.value,
        "pid": machine.pid,
        "uptime": now - machine.since if online else None,
        "restarts": machine.restarts,
        "cpu": usage.cpu if usage else None,
        "memory": usage.memory if usage else None,
        "user": user_of(instance),
        "retry_in": max(0.0, (machine.deadline or 0.0) - now) if backoff else None,
        "cause": machine.shown,
        "ports": [_short(url) for url in sorted(instance.serving.listeners)] if machine.pid else [],
        "connections": traffic.connections if traffic else None,
        "share_of_connections": traffic.share if traffic else None,
        "queue": traffic.waiting if traffic else None,
    }


def full(instance: Instance, usage: Usage | None, traffic: Traffic | None, now: float, home: Home) -> Record:
    """Everything `pmx describe` and `pmx jlist` show."""
    spec, machine, serving = instance.app.spec, instance.machine, instance.serving
    policy = {**to_wire(spec.restart), **to_wire(spec.stop)}
    if not spec.restart.restart_window:
        del policy["restart_window"]  # not set: crashes count until a good run
    return {
        **brief(instance, usage, traffic, now),
        "balance": spec.sharing.balance if shares(instance.app) else None,
        "unshared": serving.unshared,
        "ready": {"by": serving.ready_by, "after": serving.ready_after} if serving.ready_by else None,
        "status_text": serving.status,
        "slots": _slots(instance, traffic),
        "script": spec.command.script,
        "argv": list(spec.command.argv),
        "interpreter": spec.command.interpreter,
        "cwd": spec.command.cwd,
        "instances": len(instance.app.instances),
        "out_file": log_path(instance, "out", home),
        "error_file": log_path(instance, "error", home),
        "created_at": instance.app.created_at,
        "started_at": instance.started_at,
        "unstable_restarts": len(machine.record.crashes),
        "exit": machine.ended.words() if machine.ended else "",
        "exit_code": machine.ended.code if machine.ended else None,
        "policy": policy,
        "env_count": len(spec.command.env),
        "history": list(instance.history),
    }


def _slots(instance: Instance, traffic: Traffic | None) -> list[Record]:
    """The listeners of the instance."""
    weights = instance.app.spec.sharing.weights
    return [
        {
            "slot": slot_of(instance),
            "url": url,
            "id": instance.id,
            "weight": weights[instance.number] if instance.number < len(weights) else 1,
            "queue": queue.waiting,
            "backlog": queue.backlog,
        }
        for url, queue in sorted(traffic.queues.items() if traffic else ())
    ]


def _short(url: str) -> str:
    """An address as people write it: every address of the machine is none."""
    text = url.removeprefix("tcp://")
    for anywhere in ("0.0.0.0", "[::]"):
        text = text.removeprefix(anywhere) if text.startswith(f"{anywhere}:") else text
    return text.replace("unix://", "unix:")


def change(instance: Instance, what: Changed, at: float) -> Record:
    """A change of phase, as history and event bus tell it."""
    machine = instance.machine
    return {
        "at": at,
        "id": instance.id,
        "name": instance.app.spec.name,
        "run": what.run,
        "from": what.old.value,
        "to": what.new.value,
        "cause": what.cause,
        "pid": machine.pid,
        "restarts": machine.restarts,
    }


def log_path(instance: Instance, stream: str, home: Home) -> str:
    """The file that `stream` (out or error) of `instance` goes to."""
    logs = instance.app.spec.logs
    configured = logs.out_file if stream == "out" else logs.error_file
    return configured or home.log_file(instance.app.spec.name, instance.id, stream)


def user_of(instance: Instance) -> str:
    uid = instance.app.spec.command.identity.uid
    return _user_name(os.geteuid() if uid is None else uid)


_names: dict[int, str] = {}


def _user_name(uid: int) -> str:
    if uid not in _names:
        try:
            _names[uid] = getpwuid(uid).pw_name
        except KeyError:
            _names[uid] = str(uid)
    return _names[uid]

"""`pmx jlist`: PM2's JSON, for the scripts that read it. One compact line; name and status stand early for grep.

PM2 puts the whole environment of every program in this list, secrets included. Here `env` is always empty.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]  # decoded JSON, see listing.py

_STATUS = {
    "online": "online",
    "starting": "launching",
    "stopping": "stopping",
    "killing": "stopping",
    "stopped": "stopped",
    "completed": "stopped",
    "errored": "errored",
    "backoff": "waiting restart",
    "cleaning": "waiting restart",
}


def jlist(records: Sequence[Record]) -> str:
    """The list of processes as `pm2 jlist` prints it, on one line."""
    listed = [_process(record) for record in records]
    text = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    # Lone surrogates cannot be written out, and some readers take U+2028 for the end of a line.
    return text if text.isprintable() else json.dumps(listed, separators=(",", ":"))


def _process(record: Record) -> dict[str, Any]:
    online = record.get("status") == "online"
    return {
        "pid": record.get("pid") or 0,
        "name": record.get("name", ""),
        "pm2_env": {**_state(record), **_paths(record), **_execution(record), **_policy(record), **_fixed()},
        "pm_id": record.get("id"),
        "monit": {
            "memory": (record.get("memory") or 0) if online else 0,
            "cpu": (record.get("cpu") or 0) if online else 0,
        },
    }


def _state(record: Record) -> dict[str, Any]:
    status = record.get("status", "")
    created = _milliseconds(record.get("created_at"))
    return {
        "name": record.get("name", ""),
        "namespace": record.get("namespace", "default"),
        "status": _STATUS.get(status, status),
        "pm_id": record.get("id"),
        "unique_id": record.get("unique_id") or f"{record.get('id')}-{created}",
        "pm_uptime": _milliseconds(record.get("started_at")),
        "created_at": created,
        "restart_time": record.get("restarts", 0),
        "unstable_restarts": record.get("unstable_restarts", 0),
        "exit_code": record.get("exit_code"),
        "username": record.get("user", ""),
        "pmx_status": status,
    }


def _paths(record: Record) -> dict[str, Any]:
    return {
        "pm_exec_path": record.get("script", ""),
        "pm_cwd": record.get("cwd", ""),
        "pm_out_log_path": record.get("out_file", ""),
        "pm_err_log_path": record.get("error_file", ""),
    }


def _execution(record: Record) -> dict[str, Any]:
    node_args, args = _arguments(record)
    return {
        "exec_mode": f"{record.get('mode', 'fork')}_mode",
        "exec_interpreter": record.get("interpreter") or "none",
        "node_args": node_args,
        "args": args,
        "instances": record.get("instances", 1),
        "NODE_APP_INSTANCE": record.get("instance", 0),
    }


def _policy(record: Record) -> dict[str, Any]:
    policy = record.get("policy") or {}
    return {
        "autorestart": policy.get("autorestart", True),
        "max_restarts": policy.get("max_restarts", 0),
        "min_uptime": _milliseconds(policy.get("min_uptime")),
        "restart_delay": _milliseconds(policy.get("restart_delay")),
        "kill_timeout": _milliseconds(policy.get("kill_timeout")),
        "stop_exit_codes": list(policy.get("stop_exit_codes") or ()),
        "treekill": policy.get("treekill", True),
        "merge_logs": record.get("merge_logs", False),
    }


def _fixed() -> dict[str, Any]:
    """What scripts look for, and what pmx has only one answer to."""
    return {
        "watch": False,
        "version": "N/A",
        "node_version": "N/A",
        "env": {},
        "axm_actions": [],
        "axm_monitor": {},
        "axm_options": {},
    }


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else round(seconds * 1000)


def _arguments(record: Record) -> tuple[list[str], list[str]]:
    """The interpreter's arguments and the script's: what stands before and after the script."""
    argv = list(record.get("argv") or ())
    script = record.get("script", "")
    at = argv.index(script) if script in argv else 0
    return argv[1:at], argv[at + 1 :]

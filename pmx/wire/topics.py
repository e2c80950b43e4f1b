"""Topics on the event bus. SUB filters by prefix, so a topic goes from the general to the particular."""

PROCESS = "process."
"""A process changed its phase: ``process.<id>.``; data as in daemon/records.py: change."""

LOG = "log."
"""A log file grew: ``log.<id>.``; data is {"id", "stream"}. The file is the truth, the event only wakes readers."""

MESSAGE = "message."
"""A node program sent a message by process.send: ``message.<id>.``; data is {"id", "name", "run", "message"}."""

DAEMON = "daemon."
"""The daemon came up or is about to end: ``daemon.ready``, ``daemon.ending``."""


def process(instance_id: int) -> str:
    return f"{PROCESS}{instance_id}."


def message(instance_id: int) -> str:
    return f"{MESSAGE}{instance_id}."


def log(instance_id: int) -> str:
    return f"{LOG}{instance_id}."

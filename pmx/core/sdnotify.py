"""The datagrams of sd_notify(3): assignments, one a line."""


def parse(data: bytes) -> dict[str, str]:
    """The assignments in `data`; of two to the same name the first counts. Empty when it is none of the protocol.

    As systemd (manager_dispatch_notify_fd): a NUL may only be the last byte, and what is no assignment is passed over.
    """
    data = data.removesuffix(b"\0")
    if b"\0" in data:
        return {}
    fields: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, equals, value = line.partition("=")
        if name and equals:
            fields.setdefault(name, value)
    return fields

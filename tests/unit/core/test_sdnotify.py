import pytest

from pmx.core.sdnotify import parse


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"READY=1", {"READY": "1"}),
        (b"READY=1\nSTATUS=up and running\nMAINPID=7\n", {"READY": "1", "STATUS": "up and running", "MAINPID": "7"}),
        (b"STATUS=a=b", {"STATUS": "a=b"}),
        (b"STATUS=", {"STATUS": ""}),
        (b"X_MINE=1\nREADY=1", {"X_MINE": "1", "READY": "1"}),
        (b"READY=1\nREADY=0", {"READY": "1"}),
        (b"READY=1\0", {"READY": "1"}),
        (b"READY=1\0STATUS=x", {}),
        (b"READY\n=1\n\nSTOPPING=1", {"STOPPING": "1"}),
        (b"STATUS=\xff", {"STATUS": "\ufffd"}),
        ("STATUS=grüße".encode(), {"STATUS": "grüße"}),
        (b"", {}),
        (b"garbage", {}),
    ],
)
def test_assignments(data: bytes, expected: dict[str, str]) -> None:
    assert parse(data) == expected

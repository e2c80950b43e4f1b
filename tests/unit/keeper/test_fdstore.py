import errno
import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from pmx.keeper.fdstore import PIPE_SIZE, FdStore

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def store() -> Iterator[FdStore]:
    made = FdStore()
    yield made
    made.close()


def test_a_pipe_is_made_once_and_found_by_name(store: FdStore) -> None:
    first = store.open("log:b")
    assert store.open("log:b") == first == store.get("log:b")
    assert store.open("log:a") != first
    assert store.names() == ["log:a", "log:b"]


def test_a_name_that_is_not_there_is_a_bad_descriptor(store: FdStore) -> None:
    with pytest.raises(OSError, match="log:9:out") as caught:
        store.get("log:9:out")
    assert caught.value.errno == errno.EBADF


def test_a_pipe_is_reader_and_writer_at_once(store: FdStore) -> None:
    fd = store.open("log:x")
    os.write(fd, b"to myself")
    assert os.read(fd, 100) == b"to myself"


def test_a_pipe_is_large_and_closed_on_exec(store: FdStore) -> None:
    fd = store.open("log:x")
    assert fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == PIPE_SIZE
    assert not os.get_inheritable(fd)


def test_whoever_opens_it_anew_has_flags_of_their_own(store: FdStore) -> None:
    fd = store.open("log:x")
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
    assert os.get_blocking(fd)
    with pytest.raises(BlockingIOError):  # empty, but no end of file: the store is a writer
        os.read(other, 1)
    os.write(fd, b"x")
    assert os.read(other, 1) == b"x"
    os.close(other)
    os.write(fd, b"no EPIPE, though nobody reads")


def test_what_is_dropped_is_closed_and_may_be_made_again(store: FdStore) -> None:
    fd = store.open("log:x")
    store.drop("log:x")
    store.drop("log:x")
    assert store.names() == []
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    store.open("log:x")


def test_closing_closes_all() -> None:
    store = FdStore()
    fds = [store.open(f"log:{name}") for name in "abc"]
    store.close()
    assert store.names() == []
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_without_descriptors_nothing_is_made_and_nothing_leaks(store: FdStore) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(3):  # none, one, two: pipe(2) fails, pipe(2) fails, open(2) fails
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                store.open("log:x")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert store.names() == []
    store.open("log:x")


def test_only_log_pipes_are_made_by_asking(store: FdStore) -> None:
    with pytest.raises(OSError, match="ipc:0:1") as caught:
        store.open("ipc:0:1")
    assert caught.value.errno == errno.EBADF
    assert store.names() == []


def test_what_is_kept_is_owned_and_replaces_what_had_its_name(store: FdStore) -> None:
    first, second = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    store.keep("ipc:0:1", first)
    assert "ipc:0:1" in store
    assert store.open("ipc:0:1") == store.get("ipc:0:1") == first
    store.keep("ipc:0:1", second)
    assert store.get("ipc:0:1") == second
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(first)

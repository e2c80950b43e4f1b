"""From a pipe into a file: whole, in order, and harmless when the file is not."""

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pmx.daemon import logs
from pmx.errors import ProgramProblem
from pmx.keeper.fdstore import FdStore


def run(work: Callable[[logs.Logs, int], None], path: str) -> None:
    """Call `work` with logs that read a new pipe into `path`, and the pipe as a program has it."""

    async def main() -> None:
        store = FdStore()
        pipe = store.open("log:0:out")
        reader = logs.Logs(lambda instance_id, stream: None)
        reader.attach("log:0:out", os.dup(pipe), path)
        program = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY)
        try:
            work(reader, program)
        finally:
            os.close(program)
            reader.close()
            store.close()

    before = sorted(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_directory_is_made_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "log"

    def work(reader: logs.Logs, program: int) -> None:
        os.write(program, b"hello\n")
        reader.drain(("log:0:out",))

    run(work, str(path))
    assert path.read_bytes() == b"hello\n"
    assert path.stat().st_mode & 0o777 == 0o600


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=5000), max_size=20))
def test_any_bytes_come_through_as_they_are(chunks: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"

        def work(reader: logs.Logs, program: int) -> None:
            for chunk in chunks:
                if chunk:
                    os.write(program, chunk)
                reader.drain(("log:0:out",))

        run(work, str(path))
        assert (path.read_bytes() if path.exists() else b"") == b"".join(chunks)


def test_a_truncated_file_goes_on_from_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def work(reader: logs.Logs, program: int) -> None:
        os.write(program, b"before\n")
        reader.drain(("log:0:out",))
        os.truncate(path, 0)
        os.write(program, b"after\n")
        reader.drain(("log:0:out",))

    run(work, str(path))
    assert path.read_bytes() == b"after\n"


def test_a_file_that_takes_no_splice(tmp_path: Path) -> None:
    """A fifo is no seekable file: the bytes are copied."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def work(reader: logs.Logs, program: int) -> None:
        os.write(program, b"through\n")
        reader.drain(("log:0:out",))

    run(work, str(path))
    assert os.read(end, 100) == b"through\n"
    os.close(end)


def test_a_file_that_cannot_be_written_costs_output_and_nothing_else(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "directory"
    path.mkdir()

    def work(reader: logs.Logs, program: int) -> None:
        os.write(program, b"lost\n" * 1000)
        reader.drain(("log:0:out",))
        assert reader.dropped(("log:0:out",)) == 5000
        path.rmdir()
        os.write(program, b"kept\n")
        reader.drain(("log:0:out",))

    run(work, str(path))
    assert path.read_bytes() == b"kept\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limit


def test_a_log_is_checked_before_a_start(tmp_path: Path) -> None:
    logs.check_log(str(tmp_path / "new" / "log"))
    with pytest.raises(ProgramProblem, match="cannot write the log"):
        logs.check_log(str(tmp_path))


def test_last_words(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert logs.tail(str(path), 3) == []
    path.write_text("a\nb\nc\nd\n")
    assert logs.tail(str(path), 3) == ["b", "c", "d"]

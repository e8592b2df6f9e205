"""Files that are whole or absent, whoever else writes them and whoever is killed meanwhile."""

import multiprocessing
import os
import signal

import pytest

from cqdino_d2.files import FileWriteError, write_atomically
from cqdino_d2.files import atomic_file as module

SIZE = 1_000_000


@pytest.fixture(autouse=True)
def nothing_tidied(monkeypatch):
    monkeypatch.setattr(module, "_tidied", set())


def write_and_read(path, letter, results):
    def write(file):
        for _ in range(SIZE // 10_000):
            file.write(letter * 10_000)

    odd = []
    for _ in range(40):
        write_atomically(path, write)
        content = path.read_bytes()
        if len(content) != SIZE or len(set(content)) != 1:
            odd.append(len(content))
    results.put(odd)


def test_several_writers_of_one_file(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    letters = (b"a", b"b", b"c")
    writers = [
        context.Process(target=write_and_read, args=(tmp_path / "x", letter, results))
        for letter in letters
    ]
    for writer in writers:
        writer.start()
    assert [results.get(timeout=60) for _ in writers] == [[], [], []]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def write_for_ever(path, begun):
    def write(file):
        file.write(b"half")
        file.flush()
        begun.set()
        signal.pause()

    write_atomically(path, write)


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(tmp_path):
    context = multiprocessing.get_context("fork")
    begun = [context.Event(), context.Event()]
    writers = [context.Process(target=write_for_ever, args=(tmp_path / "x", one)) for one in begun]
    for writer, one in zip(writers, begun, strict=True):
        writer.start()
        assert one.wait(60)
    (tmp_path / ".own.tmp").write_text("not ours")
    assert len(list(tmp_path.glob(".x.*.tmp"))) == 2
    os.kill(writers[0].pid, signal.SIGKILL)
    writers[0].join()
    write_atomically(tmp_path / "y", lambda file: file.write(b"whole"))
    assert len(list(tmp_path.glob(".x.*.tmp"))) == 1
    assert (tmp_path / ".own.tmp").exists() and not (tmp_path / "x").exists()
    os.kill(writers[1].pid, signal.SIGKILL)
    writers[1].join()


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / ("n" * 250)
    write_atomically(path, lambda file: file.write(b"first"))

    def fail(file):
        file.write(b"second")
        raise OSError("disk full")

    with pytest.raises(FileWriteError, match=r"could not write .*disk full.*MiB are free") as found:
        write_atomically(path, fail)
    assert "\n" not in str(found.value)
    assert path.read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileWriteError, match="could not write"):
        write_atomically(tmp_path / "no/folder", fail)

"""Locks of files, and what is done on systems that have none."""

import os
import time

import pytest

from cqdino_d2.files import atomic_file, locks, write_atomically


def test_a_locked_file_is_held(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with open(path, "rb") as first, open(path, "rb") as second:
        locks.lock_file(first)
        with pytest.raises(BlockingIOError):
            locks.lock_file(second, wait=False)
    with open(path, "rb") as third:
        locks.lock_file(third, wait=False)  # freed with the file that held it


@pytest.fixture
def no_locks(monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(atomic_file, "_tidied", set())


def test_a_system_without_locks_says_so(no_locks, tmp_path):
    assert not locks.can_lock()
    with open(tmp_path / "file", "w") as file:
        for lock in (locks.lock_file, locks.lock_for_process):
            with pytest.raises(OSError, match="has no locks"):
                lock(file)


def test_there_a_file_is_closed_before_it_is_renamed(no_locks, tmp_path, monkeypatch):
    files = []

    def write(file):
        files.append(file)
        file.write(b"content")

    def replace(source, target, rename=os.replace):
        assert files[0].closed  # else Windows refuses
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_atomically(tmp_path / "x", write)
    assert (tmp_path / "x").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_there_only_old_leftovers_are_removed(no_locks, tmp_path):
    young, old = (tmp_path / f".x.{letter * 32}.tmp" for letter in "ab")
    for path in (young, old):
        path.touch()
    week_ago = time.time() - 7 * 86_400
    os.utime(old, (week_ago, week_ago))
    write_atomically(tmp_path / "x", lambda file: file.write(b"content"))
    assert young.exists() and not old.exists()

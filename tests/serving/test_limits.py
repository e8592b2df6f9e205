"""Totals: sizes, rates and the folder of uploads."""

import os

import pytest

from cqdino_d2.serving.limits import PageLimits, Rate, size_in_bytes
from cqdino_d2.serving.upload_folder import UploadFolder


def test_sizes():
    sizes = {"15mb": 15 * 2**20, "200 kB": 200 * 2**10, "1.5gb": 3 * 2**29, "1000": 1000, "7b": 7}
    assert {text: size_in_bytes(text) for text in sizes} == sizes
    for wrong in ("", "mb", "-1mb", "1tb", "1e3", "nan"):
        with pytest.raises(ValueError, match="expected a size"):
            size_in_bytes(wrong)


def test_limits_must_be_possible():
    with pytest.raises(ValueError, match=r"must be positive, got \['pixels'\]"):
        PageLimits(pixels=0)
    with pytest.raises(ValueError, match="at least two must fit"):
        PageLimits(upload_bytes=1000, disk_bytes=1999)


def test_a_rate_counts_within_its_window():
    now = [0.0]
    rate = Rate(10, 60, clock=lambda: now[0])
    assert rate.allows("a", 10) and not rate.allows("a", 11)
    rate.take("a", 7)
    assert rate.allows("a", 3) and not rate.allows("a", 4) and rate.allows("b", 10)
    now[0] = 59.0
    rate.take("a", 3)
    assert not rate.allows("a")
    now[0] = 60.0
    assert rate.allows("a", 7) and not rate.allows("a", 8)
    now[0] = 119.0
    assert rate.allows("a", 10) and rate._taken == {}


def add(folder, name, size, age, now=1000.0):
    path = folder / name / "a.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    os.utime(path, (now - age, now - age))
    return path


def uploads(tmp_path, most_bytes):
    return UploadFolder(
        tmp_path / "uploads", most_bytes=most_bytes, keep_seconds=100, clock=lambda: 1000.0
    )


def test_old_files_and_then_the_oldest_go(tmp_path):
    folder = uploads(tmp_path, 30_000)
    paths = [add(folder.folder, str(age), 5000, age) for age in (101, 90, 50, 5)]
    assert folder.used_bytes() > 30_000
    folder.tidy()
    assert [path.exists() for path in paths] == [False, True, True, True]
    assert not paths[0].parent.exists()
    new = add(folder.folder, "new", 5000, 0)
    folder.tidy()
    assert [path.exists() for path in paths] == [False, False, True, True] and new.exists()
    assert folder.used_bytes() <= 30_000


def test_what_is_about_to_arrive_has_its_room(tmp_path):
    folder = uploads(tmp_path, 30_000)
    paths = [add(folder.folder, str(age), 5000, age) for age in (90, 50, 5)]
    assert folder.reserve(15_000)
    assert [path.exists() for path in paths] == [False, False, True]
    assert not folder.reserve(1)  # with the first more than half of the folder
    folder.release(15_000)
    assert folder.reserve(1)


def test_files_of_its_own_are_all_it_touches(tmp_path):
    folder = uploads(tmp_path, 10_000)
    other = add(tmp_path, "other", 50_000, 500)
    link = folder.folder / "link"
    link.mkdir()
    (link / "a.png").symlink_to(other)
    (folder.folder / "elsewhere").symlink_to(tmp_path / "other")
    os.utime(link / "a.png", (0, 0), follow_symlinks=False)
    folder.tidy()
    assert other.exists() and not os.path.lexists(link / "a.png")

"""The cache of an annotation file: used while it fits, rebuilt when not, whole at all times."""

import json
import multiprocessing
import os
import pickle
import random
import re
import time

import numpy as np
import pytest

from cqdino_d2.annotations import cache as annotation_cache
from cqdino_d2.annotations.cache import cache_places, load_annotations
from cqdino_d2.data.records import Records
from cqdino_d2.files import locks
from cqdino_d2.files.column_file import open_column_file, write_column_file

from ..annotation_sets import box_row, image_row, v3det_categories, write_json


def content(count=3, category=1):
    return {
        "images": [image_row(i, f"{i}.png") for i in range(count)],
        "categories": v3det_categories(),
        "annotations": [box_row(i, i, category, [1, 2, 3, 4]) for i in range(count)],
    }


@pytest.fixture
def json_file(tmp_path):
    return write_json(tmp_path / "data/a.json", content())


@pytest.fixture
def parsed(monkeypatch):
    """Which files were parsed."""
    files = []
    read = annotation_cache.read_coco_format
    monkeypatch.setattr(
        annotation_cache, "read_coco_format", lambda path: files.append(path.name) or read(path)
    )
    return files


def boxes(annotations):
    return [record["annotations"] for record in Records.of_file(annotations, "")]


def test_is_parsed_once(json_file, parsed):
    first, second = load_annotations(json_file), load_annotations(json_file)
    assert parsed == ["a.json"]
    assert boxes(first) == boxes(second)
    assert first.facts == second.facts
    assert sorted(p.name for p in json_file.parent.iterdir()) == ["a.json", "a.json.columns"]


def test_a_touched_or_copied_file_keeps_its_cache(json_file, parsed, tmp_path):
    load_annotations(json_file)
    os.utime(json_file, (1, 1))
    load_annotations(json_file)
    json_file.parent.rename(tmp_path / "moved")
    load_annotations(tmp_path / "moved/a.json")
    assert len(parsed) == 1


def test_an_old_file_is_not_hashed_again(json_file, parsed, monkeypatch):
    now = time.time()
    monkeypatch.setattr(annotation_cache.time, "time", lambda: now + 3600)
    load_annotations(json_file)
    monkeypatch.setattr(annotation_cache, "_sha256", lambda path: pytest.fail("hashed"))
    load_annotations(json_file)
    assert len(parsed) == 1


def test_a_changed_file_is_parsed_again_and_said_once(json_file, parsed, caplog):
    load_annotations(json_file)
    for category in (2, 3):  # of the same size, at once: no time stamp need differ
        write_json(json_file, content(category=category))
        caplog.clear()
        assert boxes(load_annotations(json_file))[0][0]["category_id"] == category - 1
        load_annotations(json_file)
        assert caplog.text.count("rebuilt") == 1
        assert "another content" in caplog.text
    assert len(parsed) == 3


def replace_facts(path, **changes):
    columns, facts = open_column_file(path)
    columns = {name: np.array(column) for name, column in columns.items()}
    write_column_file(path, columns, facts | changes)


def replace_column(path, name, change):
    columns, facts = open_column_file(path)
    columns = {one: np.array(column) for one, column in columns.items()}
    changed = change(columns.pop(name))
    write_column_file(path, columns if changed is None else columns | {name: changed}, facts)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: replace_facts(path, format="v0"), "has the format 'v0'"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "cannot be used.*cut short"),
        (lambda path: os.truncate(path, 60), "cannot be used"),
        (lambda path: os.truncate(path, 0), "cannot be used"),
        (lambda path: path.write_bytes(b"something else" * 9), "no column file"),
        (lambda path: replace_facts(path, name="b.json"), "is of a file named 'b.json'"),
        (lambda path: replace_facts(path, sha256=None), "other columns than it should"),
        (lambda path: replace_facts(path, events=None), "other columns.*events"),
        (lambda path: replace_column(path, "sizes", lambda a: a[:-1]), "other columns"),
        (lambda path: replace_column(path, "sizes", lambda a: a.astype(np.int64)), "sizes"),
        (lambda path: replace_column(path, "vocab_ids", lambda a: a + 4), "vocab_ids"),
        (lambda path: replace_column(path, "vocab_ids", lambda a: a - 1), "vocab_ids"),
        (lambda path: replace_column(path, "given_flags", lambda a: a[1:]), "given_flags"),
        (lambda path: replace_column(path, "box_offsets", lambda a: a[::-1]), "box"),
        (lambda path: replace_column(path, "file_name_offsets", lambda a: a * 2), "file_name"),
        (lambda path: replace_column(path, "categories", lambda a: a[:-2]), "other columns"),
        (lambda path: replace_column(path, "image_ids", lambda a: None), "other columns"),
    ],
)
def test_an_unusable_cache_is_made_anew_and_said_once(json_file, parsed, caplog, spoil, message):
    expected = boxes(load_annotations(json_file))
    spoil(cache_places(json_file)[0])
    assert boxes(load_annotations(json_file)) == expected
    load_annotations(json_file)
    assert len(parsed) == 2
    assert caplog.text.count("rebuilt") == 1
    assert re.search(message, caplog.text)


def test_a_flipped_bit_never_gives_other_data(json_file, caplog):
    expected = boxes(load_annotations(json_file))
    place = cache_places(json_file)[0]
    good, draw = place.read_bytes(), random.Random(0)
    for _ in range(60):
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        place.write_bytes(bad)
        assert boxes(load_annotations(json_file)) == expected
    assert caplog.text.count("rebuilt") == 60


def test_a_program_that_only_scores_writes_no_cache(json_file, parsed):
    first = load_annotations(json_file, keep=False)
    assert [path.name for path in json_file.parent.iterdir()] == ["a.json"]
    load_annotations(json_file)
    assert boxes(load_annotations(json_file, keep=False)) == boxes(first)
    assert len(parsed) == 2


def test_a_folder_for_caches(json_file, tmp_path, monkeypatch, parsed):
    monkeypatch.setenv("CQDINO_D2_CACHE", str(tmp_path / "caches/deep"))
    load_annotations(json_file)
    load_annotations(json_file)
    (cache,) = (tmp_path / "caches/deep").iterdir()
    assert cache.name.endswith("-a.json.columns")
    assert [p.name for p in json_file.parent.iterdir()] == ["a.json"]
    assert parsed == ["a.json"]


def test_a_folder_that_cannot_be_written(json_file, tmp_path, monkeypatch, parsed):
    write = annotation_cache.write_column_file

    def refuse(path, columns, facts):
        if path.parent == json_file.parent:
            raise OSError("read-only file system")
        write(path, columns, facts)

    monkeypatch.setattr(annotation_cache, "write_column_file", refuse)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_annotations(json_file)
    load_annotations(json_file)
    assert parsed == ["a.json"]
    assert len(list((tmp_path / "home/.cache/cqdino_d2").iterdir())) == 1


def test_nowhere_to_write(json_file, tmp_path, monkeypatch, parsed, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CQDINO_D2_CACHE", str(tmp_path / "file/below"))
    first = load_annotations(json_file)
    assert "could not be kept" in caplog.text
    assert boxes(load_annotations(json_file)) == boxes(pickle.loads(pickle.dumps(first)))
    assert len(parsed) == 1
    write_json(json_file, content(category=2))
    assert boxes(load_annotations(json_file))[0][0]["category_id"] == 1


def test_pickling_sends_a_path(json_file, parsed):
    annotations = load_annotations(json_file)
    data = pickle.dumps(annotations)
    assert len(data) < 1000
    assert boxes(pickle.loads(data)) == boxes(annotations)
    write_json(json_file, content(category=2))
    load_annotations(json_file)
    with pytest.raises(ValueError, match="was replaced"):
        pickle.loads(data)


def build_together(path, start, results):
    start.wait()
    reads = []
    read = annotation_cache.read_coco_format

    def counted(path):
        reads.append(path)
        return read(path)

    annotation_cache.read_coco_format = counted
    found = len(boxes(load_annotations(path)))
    results.put((found, len(reads)))


def test_several_builders_at_once(tmp_path):
    """One parses, the others wait for its cache; all read it whole."""
    path = write_json(tmp_path / "a.json", content(count=3000))
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    workers = [
        context.Process(target=build_together, args=(path, start, results)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    start.set()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(reads for _, reads in found) == 1
    assert [total for total, _ in found] == [3000] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.json.columns"]


def test_builders_that_cannot_lock_do_not_harm_each_other(json_file, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(annotation_cache, "lock_file", refuse)
    assert len(load_annotations(json_file)) == 3


def test_a_system_without_locks_keeps_columns_too(json_file, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    assert len(load_annotations(json_file)) == 3
    assert json_file.with_name(json_file.name + ".columns").is_file()
    assert len(load_annotations(json_file)) == 3


def test_missing_file_names_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json.*expected layout: ROOT/x"):
        load_annotations(tmp_path / "gone.json", layout="ROOT/x")


def test_a_broken_file_leaves_no_cache(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content())[:-5])
    with pytest.raises(ValueError, match="not valid JSON"):
        load_annotations(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

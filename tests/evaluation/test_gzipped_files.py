"""Annotations and results that are gzipped, and what only claims to be."""

import gzip
import json
import resource

import numpy as np
import pytest

from cqdino_d2.evaluation import load_ground_truth, load_results
from tests.evaluation import sets


@pytest.fixture
def files(tmp_path):
    content, results = sets.large_set(images=5, boxes=20, detections=60)
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "r.json").write_text(json.dumps(results))
    return tmp_path


@pytest.mark.parametrize("name", ["zipped.json", "r.json.gz", "R.JSON.GZ"])
def test_results_are_those_of_the_plain_file(files, name):
    truth = load_ground_truth(files / "a.json")
    plain = load_results(files / "r.json", truth)
    (files / name).write_bytes(gzip.compress((files / "r.json").read_bytes()))
    zipped = load_results(files / name, truth)
    assert len(plain) > 0
    for column, other in zip(vars(plain).values(), vars(zipped).values(), strict=True):
        assert np.array_equal(column, other)


def test_a_damaged_file(files):
    truth, text = load_ground_truth(files / "a.json"), (files / "r.json").read_bytes()
    for damaged in (gzip.compress(text)[:-20], gzip.compress(text)[:50] + bytes(60)):
        (files / "r.json.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"r\.json\.gz is a damaged gzip file"):
            load_results(files / "r.json.gz", truth)


def test_a_bomb_does_not_fill_the_memory(files):
    """600 kB that would be 600 MB."""
    with gzip.open(files / "bomb.json.gz", "wb") as file:
        file.write(b"[")
        for _ in range(600):
            file.write(b" " * 2**20)
    truth, before = load_ground_truth(files / "a.json"), peak_bytes()
    for read in (load_ground_truth, lambda path: load_results(path, truth)):
        with pytest.raises(ValueError, match="expands to more than 200 times its size"):
            read(files / "bomb.json.gz")
    assert peak_bytes() - before < 300 * 2**20


def peak_bytes():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

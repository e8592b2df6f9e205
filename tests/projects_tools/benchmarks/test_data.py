import numpy as np
from benchmarks.data import load_detectron2, load_ours, measure_ancestors, measure_mappers, report
from benchmarks.synthetic_v3det import SyntheticSize, write_synthetic_v3det

from cqdino_d2.annotations import load_annotations, vocabulary_from_annotations

SIZE = SyntheticSize(images=300, boxes=2000, categories=700, virtual_nodes=90)


def test_the_made_up_set_is_like_v3det(tmp_path):
    json_file, tree_file = write_synthetic_v3det(tmp_path, SIZE, seed=1)
    annotations = load_annotations(json_file)
    assert len(annotations) == 300
    assert annotations.facts["annotations"] == 2000
    assert set(annotations.facts["events"]) <= {"clipped"}
    vocabulary = vocabulary_from_annotations(json_file, tree_file)
    assert len(vocabulary) == 700 and len(set(vocabulary.names)) < 700
    hierarchy = vocabulary.hierarchy
    assert hierarchy.num_nodes <= 790 and 5 <= hierarchy.levels.max() <= 12
    assert (np.diff(hierarchy.parents.offsets) > 1).sum() > 5
    counts = np.bincount(annotations.columns["vocab_ids"], minlength=700)
    assert counts.max() > 20 * max(np.median(counts), 1), "long-tailed"
    again, _ = write_synthetic_v3det(tmp_path / "again", SIZE, seed=1)
    other, _ = write_synthetic_v3det(tmp_path / "other", SIZE, seed=2)
    assert again.read_bytes() == json_file.read_bytes() != other.read_bytes()


def test_both_sides_of_the_benchmark_do_the_same(tmp_path):
    json_file, tree_file = write_synthetic_v3det(tmp_path, SIZE)
    theirs, ours = load_detectron2(json_file), load_ours(json_file)
    assert len(theirs) == len(ours)
    for one, other in zip(theirs, ours, strict=True):
        assert one["file_name"] == other["file_name"]
        assert len(one["annotations"]) == len(other["annotations"])
    run = {"cpu": 1.0, "resident": 2.0, "walked": 3.0, "peak": 4.0, "worker": 5.0}
    loading = dict.fromkeys(("detectron2", "first", "cached"), run)
    mappers = measure_mappers(tmp_path, repeats=1, count=2)
    lines = report(SIZE, loading, mappers, measure_ancestors(json_file, tree_file, repeats=1))
    assert "300 images, 2,000 boxes, 700 categories" in lines[0]
    assert {line.count("|") for line in lines[2:]} == {5}

"""What people get wrong: clear errors, or counted warnings where the originals let it pass."""

import copy
import json
import logging

import numpy as np
import pytest

from cqdino_d2.evaluation import (
    CocoProtocol,
    Detections,
    LvisProtocol,
    V3DetProtocol,
    ground_truth_from,
    load_ground_truth,
    load_results,
    memory,
)
from cqdino_d2.structures import CategoryHierarchy
from tests.evaluation import sets

CONTENT = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "a"}, {"id": 5, "name": "b"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [5, 5, 10, 10]},
    ],
}


def row(image=1, category=1, bbox=(0, 0, 10, 10), score=0.5):
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": score}


@pytest.fixture
def truth():
    return ground_truth_from(copy.deepcopy(CONTENT), "annotations")


def write(folder, text):
    path = folder / "results.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_unknown_images_are_counted_and_named(tmp_path, truth):
    path = write(tmp_path, [row(), row(image=9), row(image=8), row(image=9)])
    with pytest.raises(ValueError, match=r"3 of 4 detections are of images .*\[9, 8\].*another"):
        load_results(path, truth)


def test_unknown_categories_are_warned_about_and_do_not_count(tmp_path, truth, caplog):
    known = [row(), row(2, 5, (5, 5, 10, 10), 0.3)]
    path = write(tmp_path, [*known, row(category=7, score=0.9)])
    with caplog.at_level(logging.WARNING):
        detections = load_results(path, truth)
    assert "1 of 3 detections are of categories" in caplog.text and "[7]" in caplog.text
    assert CocoProtocol().evaluate(truth, detections).figures["AP"] == pytest.approx(100)


def test_results_of_another_data_set(tmp_path, truth):
    with pytest.raises(ValueError, match=r"all 2 detections are of categories .*another dataset"):
        load_results(write(tmp_path, [row(category=77), row(category=78)]), truth)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["bbox", "score"])
def test_numbers_that_are_not_finite(tmp_path, truth, value, place):
    bad = row() | ({"bbox": [0, 0, "X", 1]} if place == "bbox" else {"score": "X"})
    text = json.dumps([row(), bad]).replace('"X"', value)
    with pytest.raises(ValueError, match=r"1 of 2 detections have boxes .*records \[1\]"):
        load_results(write(tmp_path, text), truth)


def test_negative_sizes_are_warned_about_and_scored_as_pycocotools_does(tmp_path, truth, caplog):
    rows = [row(score=0.4), row(bbox=(9, 9, -5, 5), score=0.9), row(bbox=(9, 9, -5, -5))]
    with caplog.at_level(logging.WARNING):
        detections = load_results(write(tmp_path, rows), truth)
    assert "2 of 3 boxes have a negative width or height (records [1, 2]" in caplog.text
    content = copy.deepcopy(CONTENT)
    for annotation in content["annotations"]:
        annotation |= {"area": 100, "iscrowd": 0}
    official = sets.by_pycocotools(content, rows, (1, 10, 100))
    assert CocoProtocol().evaluate(truth, detections).figures["AP"] == 100 * official.stats[0]


def test_a_truncated_file_tells_where(tmp_path, truth):
    text = json.dumps([row(), row(), row()])
    for cut in (len(text) - 1, len(text) - 20, 30, 1):
        with pytest.raises(ValueError, match=rf"cut short: it ends at byte {cut} "):
            load_results(write(tmp_path, text[:cut]), truth)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},, {}]', "near"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 0.5}]', "no detection"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]', "no detection.*near byte 1"),
        ('[{"image_id": 1.5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "1.5"),
        ('[{"image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "'a'"),
        ("[1, 2]", "no detection .*: 1"),
        ('{"images": []}', "expected a list"),
        ("", "expected a list"),
    ],
)
def test_other_broken_files(tmp_path, truth, text, message):
    with pytest.raises(ValueError, match=message):
        load_results(write(tmp_path, text), truth)


def test_no_detection_is_a_warning_and_zero(tmp_path, truth, caplog):
    detections = load_results(write(tmp_path, "[]"), truth)
    assert "has no detection" in caplog.text
    assert CocoProtocol().evaluate(truth, detections).figures["AP"] == 0


def test_repeated_annotation_ids_are_numbered_anew(caplog):
    """pycocotools lets the last annotation of an id stand for all of them."""
    content, results = sets.large_set(seed=4, boxes=60, detections=600)
    numbered = copy.deepcopy(content)
    for place in (3, 10, 11):
        content["annotations"][place]["id"] = content["annotations"][place + 20]["id"]
    truth, detections = sets.columns_of(content, results)
    assert "3 annotations have the id of another one; all are numbered anew" in caplog.text
    official = sets.by_pycocotools(numbered, results, (1, 10, 100))
    figures = CocoProtocol().evaluate(truth, detections).figures
    assert figures["AP"] == 100 * official.stats[0] and figures["ARs"] == 100 * official.stats[9]


@pytest.mark.parametrize("number", [lambda row: row["image_id"], lambda row: 0, lambda row: None])
def test_perfect_detections_score_100_however_annotations_are_numbered(number):
    content, _ = sets.large_set(boxes=40)
    for annotation in content["annotations"]:
        annotation |= {"iscrowd": 0, "ignore": 0}
    keys = ("image_id", "category_id", "bbox")
    results = [{key: a[key] for key in keys} | {"score": 0.9} for a in content["annotations"]]
    for annotation in content["annotations"]:
        annotation["id"] = number(annotation)
        if annotation["id"] is None:
            del annotation["id"]
    truth, detections = sets.columns_of(content, results)
    assert CocoProtocol().evaluate(truth, detections).figures["AP"] == pytest.approx(100)


def test_repeated_image_and_category_ids(caplog):
    content = copy.deepcopy(CONTENT)
    content["images"].append({"id": 2})
    content["categories"].append(dict(content["categories"][1]))
    truth = ground_truth_from(content, "annotations")
    assert "1 image entries are repeated" in caplog.text
    assert truth.names == ("a", "b") and len(truth.image_ids) == 2
    content["categories"].append({"id": 5, "name": "c"})
    with pytest.raises(ValueError, match=r"category ids are listed more than once.*\[5\]"):
        ground_truth_from(content, "annotations")


def test_boxes_of_unlisted_images_or_categories_are_left_out(caplog):
    content = copy.deepcopy(CONTENT)
    box = [0, 0, 9, 9]
    content["annotations"] += [
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": box},
        {"id": 4, "image_id": 1, "category_id": 7, "bbox": box},
    ]
    assert len(ground_truth_from(content, "annotations")) == 2
    assert "2 boxes are of images or categories that it does not list" in caplog.text


def test_broken_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        load_ground_truth(tmp_path / "nowhere.json")
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(CONTENT)[:-30])
    with pytest.raises(ValueError, match=r"not valid JSON \(cut short\?\).*char \d+"):
        load_ground_truth(path)
    with pytest.raises(ValueError, match="x is not in the COCO format: it has no 'images'"):
        ground_truth_from({"images": []}, "x")
    with pytest.raises(ValueError, match="x is not in the COCO format: Expected `object`"):
        ground_truth_from([], "x")
    with pytest.raises(ValueError, match="no list 'annotations'"):
        unlabelled = ground_truth_from({"images": [{"id": 1}]}, "x")
        CocoProtocol().evaluate(unlabelled, Detections.empty())
    content = copy.deepcopy(CONTENT)
    del content["annotations"][0]["bbox"]
    with pytest.raises(ValueError, match="missing required field `bbox`"):
        ground_truth_from(content, "x")
    content["annotations"][0]["bbox"] = [0, 0, float("nan"), 1]
    with pytest.raises(ValueError, match=r"1 boxes are not finite, of the annotations \[1\]"):
        ground_truth_from(content, "x")
    content["annotations"][0]["bbox"] = [0, 0, 1]
    with pytest.raises(ValueError, match="Expected `array` of length 4"):
        ground_truth_from(content, "x")


def test_annotations_and_trees_that_do_not_fit_the_protocol(truth):
    detections = sets.columns_of(CONTENT, [row()])[1]
    with pytest.raises(ValueError, match="no LVIS annotations.*neg_category_ids"):
        LvisProtocol().evaluate(truth, detections)
    with pytest.raises(ValueError, match="tree is over 3 categories, the annotations have 2"):
        V3DetProtocol(hierarchy=CategoryHierarchy.flat(3)).evaluate(truth, detections)
    with pytest.raises(ValueError, match="max_dets must"):
        CocoProtocol(max_dets=(10, 1)).evaluate(truth, detections)


@pytest.mark.parametrize("name", ["results.txt", "results.pkl"])
def test_other_files(tmp_path, truth, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=r"expected a results file \.json, .*\.npz, \.parquet"):
        load_results(tmp_path / name, truth)


def test_broken_columns(tmp_path, truth):
    path = tmp_path / "results.npz"
    path.write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="cannot be read as npz"):
        load_results(path, truth)
    one = np.ones(1)
    np.savez(path, image_id=one.astype(int), score=one)
    with pytest.raises(ValueError, match=r"lacks the columns \['category_id', 'bbox'\]"):
        load_results(path, truth)
    ids = one.astype(int)
    np.savez(path, image_id=ids, category_id=ids, bbox=np.ones((2, 4)), score=one)
    with pytest.raises(ValueError, match="shapes do not fit"):
        load_results(path, truth)
    np.savez(path, image_id=one / 2, category_id=ids, bbox=np.ones((1, 4)), score=one)
    with pytest.raises(ValueError, match="ids must be whole numbers or texts, got 0.5"):
        load_results(path, truth)
    np.savez(path, image_id=np.array([{}]), category_id=ids, bbox=np.ones((1, 4)), score=one)
    with pytest.raises(ValueError, match="cannot be read as npz"):  # no pickles
        load_results(path, truth)


def test_what_does_not_fit_into_memory_is_said_beforehand(tmp_path, truth, monkeypatch):
    path = write(tmp_path, [row()])
    detections = load_results(path, truth)
    protocol = CocoProtocol()
    matched = protocol.match(truth, detections)
    assert memory.available_memory() > 1e6
    monkeypatch.setattr(memory, "available_memory", lambda: 20)
    with pytest.raises(MemoryError, match=r"results.json needs about .* are available"):
        load_results(path, truth)
    with pytest.raises(MemoryError, match="the curves of 2 categories"):
        protocol.report(truth, matched)
    monkeypatch.setattr(memory, "available_memory", lambda: 10**12)
    assert protocol.report(truth, matched).figures["AP"] == pytest.approx(50)


def test_the_annotation_id_0_is_warned_about(caplog):
    content = copy.deepcopy(CONTENT)
    ground_truth_from(content, "annotations")
    assert "can never be found" not in caplog.text
    content["annotations"][0]["id"] = 0
    assert ground_truth_from(content, "annotations").zero_id.sum() == 1
    assert "annotation with the id 0 can never be found" in caplog.text

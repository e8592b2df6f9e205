"""Ids that are texts, floats or beyond 64 bits: one rule, and the originals' figures."""

import copy
import json
import logging

import numpy as np
import pytest

from cqdino_d2.evaluation import (
    CocoProtocol,
    LvisProtocol,
    ground_truth_from,
    load_results,
    save_results_json,
    save_results_npz,
    save_results_parquet,
    to_detections,
)
from cqdino_d2.evaluation.result_json import _parse_in_python
from tests.evaluation import sets


def renamed(content, results, image=lambda one: one, category=lambda one: one):
    """Copies with other ids."""
    content, results = copy.deepcopy(content), copy.deepcopy(results)
    for row in content["images"]:
        row["id"] = image(row["id"])
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            row[key] = [category(one) for one in row[key]]
    for row in content["categories"]:
        row["id"] = category(row["id"])
    for row in [*content["annotations"], *results]:
        row["image_id"], row["category_id"] = image(row["image_id"]), category(row["category_id"])
    return content, results


def untied_set(detections):
    """A large set in which no two scores are equal, so that the order of images does not matter."""
    content, results = sets.large_set(detections=detections)
    for place, row in enumerate(results):
        row["score"] += place * 1e-7
    return content, results


def detections_of(folder, truth, results):
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    return load_results(path, truth)


def figures(folder, protocol, content, results):
    truth = ground_truth_from(content, "annotations")
    return protocol.evaluate(truth, detections_of(folder, truth, results)).figures


ODD = {
    "texts": (str, lambda one: one),
    "names": (lambda one: f"img_{one:04}", lambda one: one),
    "texts for both": (str, str),
    "floats": (float, float),
    "beyond 53 bits": (lambda one: one + 2**53, lambda one: one + 2**53),
    "beyond 63 bits": (lambda one: one + 2**63, lambda one: one + 2**63),
    "beyond 64 bits": (lambda one: one + 2**70, lambda one: one + 2**70),
    "below 0": (lambda one: one - 50, lambda one: one - 50),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("protocol", [CocoProtocol(), LvisProtocol()])
def test_the_figures_are_those_of_plain_ids(tmp_path, kind, protocol):
    content, results = untied_set(900)
    expected = figures(tmp_path, protocol, content, results)
    assert figures(tmp_path, protocol, *renamed(content, results, *ODD[kind])) == expected


@pytest.mark.parametrize("kind", ["texts", "names", "floats", "beyond 53 bits", "below 0"])
def test_the_figures_are_those_of_pycocotools(tmp_path, kind):
    content, results = renamed(*sets.large_set(detections=900), *ODD[kind])
    official = sets.by_pycocotools(content, results, (1, 10, 100))
    found = figures(tmp_path, CocoProtocol(), content, results)
    assert [found["AP"], found["AP50"], found["AR@1"]] == (100 * official.stats[[0, 1, 6]]).tolist()


def test_ids_are_the_same_where_they_are_spelt_alike(tmp_path):
    content, results = untied_set(300)
    expected = figures(tmp_path, CocoProtocol(), content, results)
    texts, _ = renamed(content, [], str, str)
    _, as_texts = renamed(content, results, str, str)
    truth = ground_truth_from(content, "annotations")
    assert figures(tmp_path, CocoProtocol(), content, as_texts) == expected
    assert figures(tmp_path, CocoProtocol(), texts, results) == expected
    other = [row | {"image_id": f"0{row['image_id']}"} for row in results]
    with pytest.raises(ValueError, match=r"images that the annotations do not have \(ids \['0"):
        detections_of(tmp_path, truth, other)


@pytest.mark.parametrize("kind", ODD)
def test_what_is_written_is_read_again(tmp_path, kind):
    content, results = renamed(*sets.large_set(detections=200), *ODD[kind])
    truth = ground_truth_from(content, "annotations")
    detections = detections_of(tmp_path, truth, results)
    for ending, save in {
        "json": save_results_json,
        "npz": save_results_npz,
        "parquet": save_results_parquet,
    }.items():
        save(tmp_path / f"saved.{ending}", detections, truth)
        again = load_results(tmp_path / f"saved.{ending}", truth)
        assert np.array_equal(again.images, detections.images)
        assert np.array_equal(again.categories, detections.categories)
        assert np.array_equal(again.boxes_xywh_abs, detections.boxes_xywh_abs)
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert [row["image_id"] for row in saved] == [row["image_id"] for row in results]
    assert type(saved[0]["image_id"]) is (str if "texts" in kind or kind == "names" else int)


@pytest.mark.parametrize("value", [None, True, 1.5, [1], {"a": 1}, "NaN"])
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_what_is_no_id(key, value):
    row = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | {key: value}
    text = json.dumps(row).replace('"NaN"', "NaN")
    with pytest.raises(ValueError, match=r"this is no detection \(one has .* score\): "):
        _parse_in_python(bytearray(text.encode()))


def test_null_lists_are_empty_ones(tmp_path):
    content, results = sets.large_set(detections=300)
    for image in content["images"][:4]:
        image["neg_category_ids"] = image["not_exhaustive_category_ids"] = []
    expected = figures(tmp_path, LvisProtocol(), content, results)
    for image in content["images"][:4]:
        image["neg_category_ids"] = image["not_exhaustive_category_ids"] = None
    assert figures(tmp_path, LvisProtocol(), content, results) == expected


def test_lvis_repeated_ids_are_numbered_anew(caplog):
    """The box of the second annotation has no area: lvis-api drops it and finds the first."""
    box, other = [0, 0, 40, 40], [50, 50, 20, 20]
    content = {
        "images": [{"id": 1, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "categories": [{"id": 1, "name": "a", "frequency": "f"}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 1, "bbox": box, "area": 1600},
            {"id": 5, "image_id": 1, "category_id": 1, "bbox": other, "area": 0},
        ],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}]
    with caplog.at_level(logging.WARNING):
        truth, detections = sets.columns_of(content, results)
    assert "numbered anew" in caplog.text
    content["annotations"][1]["id"] = 6
    official = sets.by_lvis_api(content, results)
    found = LvisProtocol().evaluate(truth, detections).figures["AP"]
    assert found == 100 * official.results["AP"] == pytest.approx(100)
    assert to_detections([], truth, "none").scores.size == 0

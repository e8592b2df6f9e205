import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances

from cqdino_d2.evaluation import Detections, TaggingEvaluator, TaggingProtocol, ground_truth_from
from cqdino_d2.structures import CategoryHierarchy, Vocabulary

NUM_IMAGES, NUM_CATEGORIES = 30, 12


def make_truth(generator, **category_fields):
    images = [{"id": i} for i in range(NUM_IMAGES)]
    categories = [{"id": c, "name": str(c)} for c in range(NUM_CATEGORIES)]
    for name, values in category_fields.items():
        for row, value in zip(categories, values, strict=True):
            row[name] = value
    annotations = [
        {
            "id": n + 1,
            "image_id": int(generator.integers(NUM_IMAGES)),
            "category_id": int(generator.integers(NUM_CATEGORIES - 1)),  # the last is never there
            "bbox": [0, 0, 5, 5],
            "iscrowd": int(generator.random() < 0.2),
        }
        for n in range(60)
    ]
    content = {"images": images, "categories": categories, "annotations": annotations}
    return content, ground_truth_from(content, "test")


def make_lists(generator, length=5):
    images = np.repeat(np.arange(NUM_IMAGES, dtype=np.int32), length)
    rows = [generator.choice(NUM_CATEGORIES, length, replace=False) for _ in range(NUM_IMAGES)]
    categories = np.concatenate(rows).astype(np.int32)
    count = NUM_IMAGES * length
    scores = generator.permutation(count) / count
    return Detections(images, categories, np.zeros((count, 4)), scores)


def slow_figures(content, listed, ancestors):
    """Average precision category by category, precision image by image, with sets."""
    shown = {(a["image_id"], a["category_id"]) for a in content["annotations"] if not a["iscrowd"]}
    neutral = {(i, above) for i, c in shown for above in ancestors.get(c, ())} - shown
    rows = zip(listed.scores, listed.images.tolist(), listed.categories.tolist(), strict=True)
    rows = sorted((row for row in rows if row[1:] not in neutral), reverse=True)
    precision = {}
    for category in range(NUM_CATEGORIES):
        ranking = [(i, c) in shown for _, i, c in rows if c == category]
        there = sum(c == category for _, c in shown)
        if there:
            at_hits = [sum(ranking[: n + 1]) / (n + 1) for n, hit in enumerate(ranking) if hit]
            precision[category] = sum(at_hits) / there
    shares = []
    for image in range(NUM_IMAGES):
        hits = [(i, c) in shown for _, i, c in rows if i == image]
        if hits:
            shares.append(np.mean(hits))
    return precision, 100 * np.mean(shares)


@pytest.mark.parametrize("parents", [None, [[]] * 2 + [[0], [0, 1], [2]] + [[]] * 7])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_slow_count(parents, seed):
    generator = np.random.default_rng(seed)
    frequency = ["r", "c", "f"] * 4
    content, truth = make_truth(generator, frequency=frequency)
    listed = make_lists(generator)
    hierarchy = None if parents is None else CategoryHierarchy(NUM_CATEGORIES, parents)
    ancestors = {} if parents is None else {2: {0}, 3: {0, 1}, 4: {0, 2}}
    report = TaggingProtocol(hierarchy).evaluate(truth, listed)
    precision, share = slow_figures(content, listed, ancestors)
    for category, value in enumerate(report.average_precision):
        assert value == pytest.approx(precision.get(category, -1))
    assert report.figures["mAP"] == pytest.approx(100 * np.mean(list(precision.values())))
    assert report.figures["precision"] == pytest.approx(share)
    for band in "rcf":
        inside = [v for c, v in precision.items() if frequency[c] == band]
        assert report.figures[f"mAP{band}"] == pytest.approx(100 * np.mean(inside))


def test_bands_follow_the_file_where_the_data_set_has_none():
    _, truth = make_truth(np.random.default_rng(0))
    figures = TaggingProtocol().evaluate(truth, make_lists(np.random.default_rng(1))).figures
    assert figures["mAPr"] == figures["mAP"] and figures["mAPf"] == -1


def test_no_list_and_unknown_categories():
    _, truth = make_truth(np.random.default_rng(0))
    assert TaggingProtocol().evaluate(truth, Detections.empty()).figures["mAP"] == 0
    listed = make_lists(np.random.default_rng(1))
    listed.categories[:] = -1
    assert TaggingProtocol().evaluate(truth, listed).figures["precision"] == -1


def test_the_evaluator_reports_tagging_and_recall(tmp_path):
    content, _ = make_truth(np.random.default_rng(0))
    (tmp_path / "gt.json").write_text(json.dumps(content))
    MetadataCatalog.get("tagging_test").set(json_file=str(tmp_path / "gt.json"))
    names = tuple(map(str, range(NUM_CATEGORIES)))
    vocabulary = Vocabulary(
        names, tuple(range(NUM_CATEGORIES)), CategoryHierarchy.flat(NUM_CATEGORIES)
    )
    evaluator = TaggingEvaluator(dataset_name="tagging_test", vocabulary=vocabulary)
    evaluator.reset()
    for image in range(NUM_IMAGES):
        shown = {a["category_id"] for a in content["annotations"] if a["image_id"] == image}
        ids = torch.tensor(sorted(shown), dtype=torch.int64)
        tags = Instances((8, 8), pred_classes=ids, scores=torch.ones(len(ids)))
        evaluator.process([{"image_id": image}], [{"instances": tags, "selected_vocab_ids": ids}])
    results = evaluator.evaluate()
    assert results["selection"]["ARC"] == 100
    assert set(results["tagging"]) == {"mAP", "mAPr", "mAPc", "mAPf", "precision"}
    assert results["tagging"]["mAP"] > 80  # crowds are listed too

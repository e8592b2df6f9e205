"""What a report chooses to show, on a set of three images that can be counted by hand."""

import numpy as np
import pytest

from cqdino_d2.evaluation import CocoProtocol, ground_truth_from, judge_detections, to_detections
from cqdino_d2.evaluation.error_breakdown import KINDS
from cqdino_d2.evaluation.result_json import RawResults
from cqdino_d2.reports import examples as selection
from cqdino_d2.structures import CategoryHierarchy

NAMES = ["animal", "cat", "dog", "car"]
# 0 is above 1 and 2; node 4 is virtual and above 0 and 3.
TREE = CategoryHierarchy(4, [[4], [0], [0], [4], []], node_names=["a", "b", "c", "d", "thing"])
A, B, C = [0, 0, 40, 40], [100, 0, 40, 40], [0, 100, 60, 60]
TRUTH = [(7, 1, A), (7, 2, B), (8, 2, A), (8, 3, C), (9, 1, A)]
FOUND = [
    (7, 1, A, 0.9),  # hit
    (7, 1, B, 0.8),  # dog taken for cat
    (8, 1, A, 0.7),  # and again
    (8, 0, A, 0.6),  # dog taken for animal
    (8, 3, [300, 300, 9, 9], 0.5),  # background; the car is missed
    (9, 1, A, 0.4),  # hit
    (9, 1, A, 0.1),  # duplicate, with a low score
]


@pytest.fixture(scope="module")
def evaluated():
    content = {
        "images": [{"id": i} for i in (7, 8, 9, 10)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [
            {"id": n + 1, "image_id": image, "category_id": category, "bbox": box}
            for n, (image, category, box) in enumerate(TRUTH)
        ],
    }
    truth = ground_truth_from(content, "test")
    images, categories, boxes, scores = zip(*FOUND, strict=True)
    raw = RawResults(
        np.array(images), np.array(categories), np.array(boxes, float), np.array(scores)
    )
    detections = to_detections([raw], truth, "test")
    protocol = CocoProtocol(hierarchy=TREE)
    judged = judge_detections(protocol, truth, detections)
    return judged.take(judged.scores >= 0.3), protocol.evaluate(truth, detections)


def test_images_are_ranked_by_f1(evaluated):
    scores = selection.score_images(evaluated[0], 4)
    assert scores.hits.tolist() == [1, 0, 1, 0]
    assert scores.false_positives.tolist() == [1, 3, 0, 0]
    assert scores.missed.tolist() == [1, 2, 0, 0]
    assert scores.f1[:3].tolist() == [0.5, 0, 1] and np.isnan(scores.f1[3])
    assert selection.worst_and_best(scores, 2) == ([1, 0], [2])
    assert selection.worst_and_best(scores, 0) == ([], [])
    assert selection.worst_and_best(scores, 1) == ([1], [2])


def test_examples_are_the_most_confident_errors_one_per_image(evaluated):
    judged = evaluated[0]

    def images(kind, count=5):
        return [e.image for e in selection.examples_of_kind(judged, kind, count)]

    assert images("confusion_sibling") == [0, 1]
    assert images("confusion_sibling", 1) == [0]
    assert images("confusion_ancestor") == [1]
    assert images("background") == [1]
    assert images("duplicate") == []  # its score is too low
    (missed,) = selection.examples_of_kind(judged, "missed", 5)
    assert missed.detection == -1 and missed.image == 1
    assert judged.problem.gt_categories[missed.box] == 3
    (first, _) = selection.examples_of_kind(judged, "confusion_sibling", 5)
    assert judged.scores[first.detection] == 0.8
    assert judged.problem.gt_categories[first.box] == 2


def test_categories_and_their_images(evaluated):
    judged, report = evaluated
    worst = selection.worst_categories(report, 10)
    assert sorted(worst[:2]) == [2, 3] and worst[2:] == [1]  # the animal has no box
    assert selection.images_of_category(judged, 2, 3) == [0, 1]
    assert selection.images_of_category(judged, 1, 3) == [0, 1]
    assert selection.images_of_category(judged, 3, 3) == [1]


def test_confusions_and_families(evaluated):
    judged = evaluated[0]
    found = selection.Confusions.of(judged)
    rows = zip(found.true.tolist(), found.predicted.tolist(), found.counts.tolist(), strict=True)
    assert list(rows) == [(2, 1, 2), (2, 0, 1)]
    assert KINDS[found.kinds[0]] == "confusion_sibling"
    (group,) = selection.sibling_groups(judged, found, TREE, groups=3, size=5)
    assert (group.parent, group.confusions, group.categories) == (0, 2, [1, 2])
    assert group.matrix.tolist() == [[2, 0], [2, 0]]
    nothing = selection.Confusions.of(judged.take(judged.scores > 2))
    assert len(nothing.counts) == 0
    assert selection.sibling_groups(judged, nothing, TREE, groups=3, size=5) == []


def test_branches_are_means_over_measured_categories(evaluated):
    report = evaluated[1]
    ap = report.per_category.figures["AP"]
    branches = selection.branches_of(TREE, report)
    assert branches.categories.tolist() == [3, 1, 1, 1, 4]
    assert branches.measured.tolist() == [2, 1, 1, 1, 3]
    assert branches.boxes.tolist() == [4, 2, 2, 1, 5]
    assert branches.ap == pytest.approx(
        [ap[1:3].mean(), ap[1], ap[2], ap[3], ap[1:].mean()], abs=1e-12
    )


def test_a_category_that_two_paths_reach_counts_once(evaluated):
    diamond = CategoryHierarchy(4, [[], [0], [0], [1, 2]])
    assert selection.branches_of(diamond, evaluated[1]).categories.tolist() == [4, 2, 2, 1]

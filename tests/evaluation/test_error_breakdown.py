import numpy as np
import pytest

from cqdino_d2.evaluation import (
    CocoProtocol,
    V3DetProtocol,
    break_down_errors,
    judge_detections,
)
from cqdino_d2.evaluation.error_breakdown import HIT
from cqdino_d2.structures import CategoryHierarchy
from tests.evaluation import sets

# 1 is above 2 and 3; 4 stands alone.
TREE = CategoryHierarchy(4, [[], [0], [0], []])
CATEGORIES = [{"id": i, "name": str(i)} for i in (1, 2, 3, 4)]


def content(*boxes):
    annotations = [
        {"id": i + 1, "image_id": 1, "category_id": category, "bbox": box}
        for i, (category, box) in enumerate(boxes)
    ]
    return {"images": [{"id": 1}], "categories": CATEGORIES, "annotations": annotations}


def found(category, box, score=0.5):
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


HERE, SHIFTED, BARELY, ELSEWHERE = [0, 0, 100, 100], [0, 0, 100, 40], [0, 0, 100, 5], [300, 0, 9, 9]


def break_down(truth, results, protocol=None):
    protocol = protocol or CocoProtocol(hierarchy=TREE)
    return break_down_errors(protocol, *sets.columns_of(truth, results))


@pytest.mark.parametrize(
    ("category", "box", "kind", "gain"),
    [
        (2, SHIFTED, "localisation", 100),
        (3, HERE, "confusion_sibling", 100),
        (1, HERE, "confusion_ancestor", 100),
        (4, HERE, "confusion_other", 100),
        (2, ELSEWHERE, "background", 0),
        (2, BARELY, "background", 0),
        (4, SHIFTED, "confusion_and_localisation", 0),
    ],
)
def test_each_kind_alone(category, box, kind, gain):
    errors = break_down(content((2, HERE)), [found(category, box)])
    expected_missed = 0 if gain else 1
    assert errors.ap50 == 0
    assert {k: n for k, n in errors.counts.items() if n} == (
        {kind: 1} | ({"missed": 1} if expected_missed else {})
    )
    assert errors.ap50_gain[kind] == pytest.approx(gain)


def test_a_duplicate_costs_what_it_costs():
    truth = content((2, HERE), (2, [200, 0, 50, 50]))
    results = [found(2, HERE, 0.9), found(2, HERE, 0.8), found(2, [200, 0, 50, 50], 0.7)]
    errors = break_down(truth, results)
    assert errors.counts["duplicate"] == 1 and sum(errors.counts.values()) == 1
    assert errors.ap50 + errors.ap50_gain["duplicate"] == pytest.approx(100)
    assert errors.ap50 == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)


def test_a_missed_box():
    errors = break_down(content((2, HERE), (2, ELSEWHERE)), [found(2, HERE)])
    assert errors.counts["missed"] == 1
    assert errors.ap50 == pytest.approx(100 * 51 / 101)
    assert errors.ap50_gain["missed"] == pytest.approx(100 * 50 / 101)


def test_only_one_detection_is_set_right_for_a_box():
    results = [found(4, HERE, 0.9), found(4, HERE, 0.8), found(2, SHIFTED, 0.7)]
    errors = break_down(content((2, HERE), (4, ELSEWHERE)), results)
    assert errors.counts["confusion_other"] == 2
    assert errors.ap50_gain["confusion_other"] == pytest.approx(50)


def test_what_the_protocol_ignores_is_no_error():
    truth, results = content((1, HERE), (2, ELSEWHERE)), [found(2, HERE)]
    assert break_down(truth, results).counts["confusion_other"] == 1
    errors = break_down(truth, results, V3DetProtocol(hierarchy=TREE))
    assert {k: n for k, n in errors.counts.items() if n} == {"missed": 2}


def test_ap50_is_that_of_the_evaluation():
    data = sets.columns_of(*sets.large_set(seed=3, detections=1500))
    for protocol in (CocoProtocol(), V3DetProtocol(hierarchy=None)):
        errors = break_down_errors(protocol, *data)
        report = protocol.evaluate(*data)
        assert errors.ap50 == pytest.approx(report.figures["AP50"], rel=1e-12)
        assert min(errors.ap50_gain.values()) >= -1e-9
        again = break_down_errors(protocol, *data, backend="reference")
        assert again == errors


def test_nothing_to_find_or_nothing_found():
    errors = break_down(content(), [found(2, HERE)])
    assert errors.ap50 == -1 and set(errors.ap50_gain.values()) == {0.0}
    errors = break_down(content((2, HERE)), [])
    assert errors.counts["missed"] == 1 and errors.ap50 == 0
    assert np.isfinite(list(errors.ap50_gain.values())).all()


def test_detections_above_a_score_are_judged_as_if_they_were_alone():
    truth, detections = sets.columns_of(*sets.large_set(seed=5, detections=1500))
    protocol = V3DetProtocol(hierarchy=None)
    judged = judge_detections(protocol, truth, detections)
    alone = judge_detections(protocol, truth, detections.take(detections.scores >= 0.5))
    kept = judged.take(judged.scores >= 0.5)
    assert 0 < len(kept.scores) < len(judged.scores)
    for name in ("images", "categories", "scores", "status", "kinds", "boxes", "boxes_xywh_abs"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(alone, name))
    hits = kept.status == HIT
    same = kept.problem.gt_categories[kept.boxes[hits]] == kept.categories[hits]
    assert hits.any() and same.all() and (kept.kinds[hits] == -1).all()
    assert len(kept.missed_boxes()) > len(judged.missed_boxes())

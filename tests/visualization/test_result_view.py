import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from cqdino_d2.structures import random_vocabulary
from cqdino_d2.visualization.result_view import ResultView, ViewSettings

BOXES = [(0.0, 0.0, 40.0, 40.0), (1.0, 0.0, 40.0, 40.0), (0.0, 0.0, 40.0, 40.0), (50, 50, 90, 90)]
CLASSES = [5, 6, 9, 5]  # 5 and 6 are children of 1, 9 of 2
SCORES = [0.5, 0.9, 0.4, 0.3]


@pytest.fixture
def view():
    return ResultView(random_vocabulary(21))


def make_result():
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor(BOXES, dtype=torch.float32))
    instances.pred_classes, instances.scores = torch.tensor(CLASSES), torch.tensor(SCORES)
    selected = {
        "selected_vocab_ids": torch.tensor([6, 5]),
        "selected_scores": torch.tensor([0.8, 0.2]),
    }
    return {"instances": instances, **selected}


def test_the_best_above_the_threshold_come_first(view):
    found = view.detections(make_result(), ViewSettings(threshold=0.4))
    assert [item.vocab_id for item in found] == [6, 5, 9]
    assert [item.vocab_id for item in view.detections(make_result(), ViewSettings(0, 1))] == [6]
    assert view.detections(make_result(), ViewSettings(0.95)) == []


def test_rolled_up_an_object_is_shown_once_per_name(view):
    found = view.detections(make_result(), ViewSettings(0, depth=2))
    assert [(item.vocab_id, item.shown_id) for item in found] == [(6, 1), (9, 2), (5, 1)]
    assert found[2].box_xyxy_abs == (50, 50, 90, 90)
    roots = view.detections(make_result(), ViewSettings(0, depth=1))
    assert [item.shown_id for item in roots] == [0, 0]


def test_boxes_of_one_name_on_one_object_are_shown_once_where_asked(view):
    boxes = [(0.0, 0.0, 40.0, 40.0), (0.0, 0.0, 40.0, 30.0), (0.0, 0.0, 40.0, 20.0)]
    instances = Instances((100, 90))
    instances.pred_boxes = Boxes(torch.tensor([*boxes, boxes[0]]))
    instances.pred_classes, instances.scores = (
        torch.tensor([5, 5, 5, 6]),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
    )

    def shown(iou):
        found = view.detections({"instances": instances}, ViewSettings(same_object_iou=iou))
        return [round(item.score, 1) for item in found]

    assert shown(None) == [0.9, 0.8, 0.7, 0.6]
    assert shown(0.75) == [0.9, 0.7, 0.6]  # the second overlaps by just that
    assert shown(0.76) == [0.9, 0.8, 0.7, 0.6]
    assert shown(0.5) == [0.9, 0.6]


def test_coco_rows_have_the_data_sets_ids(view):
    row = view.coco_rows(view.detections(make_result(), ViewSettings()), 7)[0]
    assert row["category_id"] == view.vocabulary.dataset_ids[6] == 7
    assert row == {"image_id": 7, "category_id": 7, "bbox": [1, 0, 39, 40], "score": 0.9}


def test_drawing_and_panel(view):
    image = np.zeros((100, 100, 3), np.uint8)
    found = view.detections(make_result(), ViewSettings())
    drawn = view.draw(image, found)
    assert drawn.shape == (600, 600, 3)
    colours = {tuple(c) for c in drawn.reshape(-1, 3).tolist()}
    assert {view.tree.colour(i) for i in (5, 6, 9)} <= colours
    assert view.with_panel(drawn, make_result()).shape == (600, 980, 3)
    assert view.selected(make_result()) == [(6, pytest.approx(0.8)), (5, pytest.approx(0.2))]


def test_a_result_without_boxes_is_refused(view):
    with pytest.raises(ValueError, match="finds no boxes"):
        view.detections({"instances": Instances((9, 9))}, ViewSettings())

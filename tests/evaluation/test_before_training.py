"""What would end a training at its evaluation is told before, and what can be done is done."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from cqdino_d2.data import register_coco_like
from cqdino_d2.engine.evaluation import ChecksBeforehand
from cqdino_d2.evaluation import COCOEvaluator, build_evaluator
from cqdino_d2.structures import CategoryHierarchy, Vocabulary

from ..annotation_sets import box_row, clean_catalogs, image_row, write_json  # noqa: F401

CATEGORIES = [{"id": 7, "name": "a"}, {"id": 3, "name": "b"}]
VOCABULARY = Vocabulary(("b", "a"), (3, 7), CategoryHierarchy.flat(2))


def content(**changes):
    return {
        "images": [image_row(1, "a.png"), image_row(2, "b.png")],
        "categories": CATEGORIES,
        "annotations": [box_row(1, 1, 7, [0, 0, 10, 10]), box_row(2, 2, 3, [5, 5, 10, 10])],
        **changes,
    }


def register(folder, changed, **kwargs):
    path = write_json(folder / "val.json", changed)
    register_coco_like("mine", path, folder, **kwargs)
    return "mine"


def found(box, vocab_id, score=0.9):
    instances = Instances((20, 30))
    instances.pred_boxes = Boxes(torch.tensor([box], dtype=torch.float32))
    instances.scores = torch.tensor([score])
    instances.pred_classes = torch.tensor([vocab_id])
    return {"instances": instances}


def predict_perfectly(evaluator, image_ids=(1, 2)):
    """By vocab_id: 1 is the category 7, 0 is 3."""
    evaluator.process([{"image_id": image_ids[0]}], [found([0, 0, 10, 10], 1)])
    evaluator.process([{"image_id": image_ids[1]}], [found([5, 5, 15, 15], 0)])
    return evaluator.evaluate()


def test_an_evaluator_made_before_the_records_are_read(tmp_path):
    evaluator = COCOEvaluator(dataset_name=register(tmp_path, content()))
    assert predict_perfectly(evaluator)["bbox"]["AP"] == pytest.approx(100)
    assert MetadataCatalog.get("mine").get("thing_classes") is None
    assert [path.name for path in tmp_path.iterdir()] == ["val.json"]


def test_the_engine_knows_that_it_can_be_asked():
    assert issubclass(COCOEvaluator, ChecksBeforehand)


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("lvis", content(), r"val\.json: these are no LVIS annotations"),
        (
            "coco",
            content(annotations=[box_row(1, 1, 7, [0, 0, float("nan"), 9])]),
            r"val\.json: 1 boxes are not finite, of the annotations \[1\]",
        ),
        ("coco", content(categories=[*CATEGORIES, {"id": 9}],
                         annotations=[box_row(1, 1, 9, [0, 0, 9, 9])]),
         r"val\.json has boxes of unknown categories: \[9\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_told_beforehand(tmp_path, kind, changed, message):
    name = register(tmp_path, changed, evaluator_type=kind)
    evaluator = build_evaluator(dataset_name=name, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match=message):
        evaluator.check()


@pytest.mark.parametrize("kind", ["coco", "lvis", "v3det"])
@pytest.mark.parametrize("left_out", [("annotations",), ("annotations", "categories")])
def test_without_annotations_predictions_are_written_and_figures_left_out(
    tmp_path, caplog, kind, left_out
):
    changed = {key: value for key, value in content().items() if key not in left_out}
    name = register(tmp_path, changed, evaluator_type=kind)
    folder = tmp_path / "out"
    evaluator = build_evaluator(dataset_name=name, vocabulary=VOCABULARY, output_dir=str(folder))
    evaluator.check()
    assert "predictions will be written, figures left out" in caplog.text
    assert predict_perfectly(evaluator) == {}
    rows = json.loads((folder / "coco_instances_results.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(1, 7), (2, 3)]
    assert np.load(folder / "detections.npz")["category_id"].tolist() == [7, 3]


@pytest.mark.parametrize(
    "change",
    [str, float, lambda one: f"img_{one}", lambda one: one + 2**63, lambda one: 2**70 * one],
)
def test_other_image_ids(tmp_path, change):
    changed = content()
    for row in changed["images"]:
        row["id"] = change(row["id"])
    for row in changed["annotations"]:
        row["image_id"] = change(row["image_id"])
    folder = tmp_path / "out"
    evaluator = COCOEvaluator(
        dataset_name=register(tmp_path, changed), output_dir=str(folder), vocabulary=VOCABULARY
    )
    evaluator.check()
    ids = change(1), change(2)
    assert predict_perfectly(evaluator, ids)["bbox"]["AP"] == pytest.approx(100)
    rows = json.loads((folder / "coco_instances_results.json").read_text())
    assert [row["image_id"] for row in rows] == list(ids)
    with pytest.raises(ValueError, match="image nowhere is not in"):
        evaluator.process([{"image_id": "nowhere"}], [found([0, 0, 1, 1], 0)])


def test_category_ids_beyond_64_bits(tmp_path):
    changed = content(categories=[row | {"id": row["id"] + 2**64} for row in CATEGORIES])
    for row in changed["annotations"]:
        row["category_id"] += 2**64
    evaluator = COCOEvaluator(dataset_name=register(tmp_path, changed))
    assert predict_perfectly(evaluator)["bbox"]["AP"] == pytest.approx(100)

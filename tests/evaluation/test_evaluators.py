import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from cqdino_d2.evaluation import (
    COCOEvaluator,
    ColumnEvaluator,
    LVISEvaluator,
    V3DetEvaluator,
    build_evaluator,
    category_recall,
    hierarchy_in_order,
    load_ground_truth,
    load_results,
)
from cqdino_d2.structures import CategoryHierarchy, Vocabulary
from tests.evaluation import sets

CATEGORY_IDS = [7, 3, 11]  # dataset ids of vocab ids 0, 1, 2
# 3 is above 7; 11 stands alone.
VOCABULARY = Vocabulary(("a", "b", "c"), tuple(CATEGORY_IDS), CategoryHierarchy(3, [[1], [], []]))


def annotation(index, image_id, category_id, bbox, **fields):
    row = {"id": index, "image_id": image_id, "category_id": category_id, "bbox": bbox}
    return row | fields


def register(folder, annotations, image_ids, **metadata):
    lvis = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    content = {
        "images": [{"id": i, "width": 200, "height": 200, "file_name": f"{i}"} for i in image_ids],
        "categories": [{"id": i, "name": str(i), "frequency": "f"} for i in CATEGORY_IDS],
        "annotations": annotations,
    }
    content["images"] = [image | lvis for image in content["images"]]
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    name = f"test_{folder.name}_{len(MetadataCatalog.list())}"
    MetadataCatalog.get(name).set(
        json_file=str(path),
        thing_dataset_id_to_contiguous_id={d: v for v, d in enumerate(CATEGORY_IDS)},
        **metadata,
    )
    return name


def output(boxes, scores, vocab_ids, selected=None):
    instances = Instances((200, 200))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores, dtype=torch.float32)
    instances.pred_classes = torch.tensor(vocab_ids, dtype=torch.int64)
    result = {"instances": instances}
    if selected is not None:
        result["selected_vocab_ids"] = torch.tensor(selected)
    return result


def test_figures_computed_by_hand(tmp_path):
    """Category 7 is found perfectly, category 3 with IoU 0.6 (of 10 thresholds 3 pass)."""
    boxes = [annotation(1, 1, 7, [10, 10, 40, 40]), annotation(2, 1, 3, [100, 100, 50, 50])]
    evaluator = COCOEvaluator(dataset_name=register(tmp_path, boxes, [1]))
    found = output([[10, 10, 50, 50], [100, 100, 150, 130]], [0.9, 0.8], [0, 1], [0, 2])
    evaluator.process([{"image_id": 1}], [found])
    results = evaluator.evaluate()
    box = results["bbox"]
    assert box["AP"] == pytest.approx((100 + 30) / 2)
    assert (box["AP50"], box["AP75"]) == pytest.approx((100, 50))
    assert box["AR@300"] == pytest.approx((100 + 30) / 2)
    assert np.isnan(box["APs"]) and box["APm"] == pytest.approx(65)
    assert results["selection"] == pytest.approx({"ARC": 50, "ARC_macro": 50})


@pytest.mark.parametrize("predicted", [[1], [1, 2]])
def test_images_without_a_prediction_are_counted_and_named(tmp_path, predicted, caplog):
    boxes = [annotation(i, i, 7, [10, 10, 40, 40]) for i in (1, 2)]
    evaluator = COCOEvaluator(dataset_name=register(tmp_path, boxes, [1, 2]))
    found = output([[10, 10, 50, 50]], [0.9], [0])
    with caplog.at_level("WARNING", logger="cqdino_d2.evaluation"):
        results = evaluate(evaluator, dict.fromkeys(predicted, found))
    assert results["bbox"]["AR@300"] == pytest.approx(50 * len(predicted))
    assert ("Only 1 of 2 images" in caplog.text) == (len(predicted) == 1)


def make_random_set(folder, rng, **metadata):
    annotations, outputs = [], {}
    for image in range(1, 16):
        boxes, classes = [], []
        for _ in range(rng.integers(0, 5)):
            left, top = rng.uniform(0, 100, 2)
            width, height = rng.uniform(5, 99, 2)
            vocab_id = int(rng.integers(3))
            box = [left, top, width, height]
            crowd = int(rng.random() < 0.1)
            annotations.append(
                annotation(len(annotations) + 1, image, CATEGORY_IDS[vocab_id], box, iscrowd=crowd)
            )
            boxes.append(np.array([left, top, left + width, top + height]) + rng.normal(0, 6, 4))
            classes.append(vocab_id if rng.random() < 0.8 else int(rng.integers(3)))
        scores = rng.random(len(boxes)).round(1)
        outputs[image] = output(np.array(boxes).tolist(), scores.tolist(), classes)
    return register(folder, annotations, range(1, 16), **metadata), outputs


def evaluate(evaluator, outputs):
    for image_id, prediction in outputs.items():
        evaluator.process([{"image_id": image_id}], [prediction])
    return evaluator.evaluate()


@pytest.mark.parametrize("max_dets", [1, 100, 300])
def test_figures_equal_pycocotools_on_the_file_that_was_written(tmp_path, max_dets):
    name, outputs = make_random_set(tmp_path, np.random.default_rng(3))
    folder = tmp_path / "out"
    evaluator = COCOEvaluator(dataset_name=name, max_dets=max_dets, output_dir=str(folder))
    results = evaluate(evaluator, outputs)
    assert "selection" not in results
    saved = json.loads((folder / "coco_instances_results.json").read_text())
    content = json.loads((tmp_path / "annotations.json").read_text())
    for row in content["annotations"]:
        row["area"] = row["bbox"][2] * row["bbox"][3]
    official = sets.by_pycocotools(content, saved, [max_dets]).eval
    precision, recall = official["precision"], official["recall"]
    for area, name in enumerate(["", "s", "m", "l"]):
        ours = results["bbox"]["AP" + name], results["bbox"][f"AR{name}@{max_dets}"]
        for value, tensor in zip(
            ours, (precision[:, :, :, area, 0], recall[:, :, area, 0]), strict=True
        ):
            measured = tensor[tensor > -1]
            wanted = 100 * measured.mean() if measured.size else np.nan
            np.testing.assert_equal(value, wanted)


def test_what_is_written_gives_the_same_figures(tmp_path):
    name, outputs = make_random_set(tmp_path, np.random.default_rng(4))
    evaluator = COCOEvaluator(dataset_name=name, output_dir=str(tmp_path / "out"))
    results = evaluate(evaluator, outputs)
    truth = load_ground_truth(tmp_path / "annotations.json")
    protocol = evaluator._protocols["bbox"]
    for file in ("coco_instances_results.json", "detections.npz"):
        detections = load_results(tmp_path / "out" / file, truth)
        figures = protocol.evaluate(truth, detections).figures
        assert figures["AP"] == results["bbox"]["AP"] and figures["ARm"] == results["bbox"]["ARm"]
    assert detections.boxes_xywh_abs.dtype == np.float32


def test_no_detection_at_all_is_zero(tmp_path):
    name = register(tmp_path, [annotation(1, 5, 7, [0, 0, 40, 40])], [5])
    for evaluator in (COCOEvaluator(dataset_name=name), LVISEvaluator(dataset_name=name)):
        assert evaluate(evaluator, {5: output([], [], [])})["bbox"]["AP"] == 0


def test_an_ancestors_box_excuses_a_detection_for_v3det_alone(tmp_path):
    boxes = [annotation(1, 1, 3, [10, 10, 40, 40]), annotation(2, 1, 7, [100, 100, 40, 40])]
    name = register(tmp_path, boxes, [1], evaluator_type="v3det")
    found = output([[10, 10, 50, 50], [100, 100, 140, 140]], [0.9, 0.8], [0, 0])
    evaluator = build_evaluator(dataset_name=name, vocabulary=VOCABULARY)
    assert isinstance(evaluator, V3DetEvaluator)
    assert evaluate(evaluator, {1: found})["bbox"]["AP"] == pytest.approx(50)
    both = build_evaluator(dataset_name=name, vocabulary=VOCABULARY, protocols=["coco", "v3det"])
    results = evaluate(both, {1: found})
    assert results["bbox"]["AP"] == pytest.approx(25)
    assert results["v3det"]["AP"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("coco", COCOEvaluator), ("lvis", LVISEvaluator), ("v3det", V3DetEvaluator)],
)
def test_the_metadata_chooses_the_evaluator(tmp_path, kind, wanted):
    name, outputs = make_random_set(tmp_path, np.random.default_rng(0), evaluator_type=kind)
    evaluator = build_evaluator(dataset_name=name, vocabulary=VOCABULARY)
    assert type(evaluator) is wanted
    assert 0 < evaluate(evaluator, outputs)["bbox"]["AP"] < 100
    MetadataCatalog.get(name).evaluator_type  # noqa: B018 - it is there
    other = register(tmp_path, [], [1], evaluator_type="panoptic")
    with pytest.raises(ValueError, match="evaluator_type 'panoptic'"):
        build_evaluator(dataset_name=other, vocabulary=VOCABULARY)


def test_category_recall_by_hand():
    present = {1: {0, 1}, 2: {1}, 3: set(), 4: {2}}
    selected = {1: [0, 5], 2: [1], 3: [0]}  # image 4 was not predicted
    figures = category_recall(selected, present)
    assert figures["ARC"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert figures["ARC_macro"] == pytest.approx(100 * (1 + 0.5) / 2)


def test_crowds_do_not_count_for_arc(tmp_path):
    boxes = [
        annotation(1, 1, 7, [0, 0, 40, 40]),
        annotation(2, 1, 3, [0, 0, 90, 90], iscrowd=1),
    ]
    evaluator = COCOEvaluator(dataset_name=register(tmp_path, boxes, [1]))
    assert evaluate(evaluator, {1: output([], [], [], [0])})["selection"]["ARC"] == 100


def test_errors_name_what_is_wrong(tmp_path):
    name = register(tmp_path, [annotation(1, 5, 7, [0, 0, 4, 4])], [5])
    evaluator = COCOEvaluator(dataset_name=name)
    with pytest.raises(ValueError, match="no image of"):
        evaluator.evaluate()
    with pytest.raises(ValueError, match="image 6 is not in .*annotations.json"):
        evaluator.process([{"image_id": 6}], [output([], [], [])])
    evaluator.process([{"image_id": 5}], [output([], [], [])])
    with pytest.raises(ValueError, match="image 5 was predicted twice"):
        evaluator.process([{"image_id": 5}], [output([], [], [])])
    with pytest.raises(ValueError, match="no json_file"):
        COCOEvaluator(dataset_name="never_registered")
    with pytest.raises(ValueError, match="no protocol 'voc'"):
        build_evaluator(dataset_name=name, vocabulary=VOCABULARY, protocols=["voc"])
    small = Vocabulary(("a",), (3,), CategoryHierarchy.flat(1))
    with pytest.raises(ValueError, match=r"unknown categories: \[7\]"):
        evaluate(COCOEvaluator(dataset_name=name, vocabulary=small), {5: output([], [], [])})


def test_processes_gather_to_the_same_figures_as_arrays(tmp_path, monkeypatch):
    name, outputs = make_random_set(tmp_path, np.random.default_rng(3))
    chosen = {"selected_vocab_ids": torch.tensor([0, 2])}
    outputs = {image_id: prediction | chosen for image_id, prediction in outputs.items()}

    def evaluate_some(keep):
        return evaluate(COCOEvaluator(dataset_name=name), {i: outputs[i] for i in keep})

    alone = evaluate_some(outputs)
    sent = []
    monkeypatch.setattr(comm, "gather", lambda share: sent.append(share) or sent)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert evaluate_some([i for i in outputs if i % 2]) == {}
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    together = evaluate_some([i for i in outputs if not i % 2])
    assert together["bbox"] == pytest.approx(alone["bbox"], nan_ok=True)
    assert together["selection"] == alone["selection"]
    columns = vars(sent[0].detections).values()
    assert all(isinstance(column, np.ndarray) for column in columns)
    per_row = sum(column.nbytes for column in columns) / len(sent[0].detections)
    assert per_row == 28
    with pytest.raises(ValueError, match="several processes predicted the same"):
        evaluate_some([1])


def test_a_vocabulary_in_another_order_keeps_its_tree():
    """7 -> 3 -> virtual; the file lists 3, 7, 9."""
    old = CategoryHierarchy(3, [[1], [3], [], []])
    vocabulary = Vocabulary(("a", "b", "c"), (7, 3, 11), old)
    new = hierarchy_in_order(vocabulary, [3, 7, 9])
    assert new.num_categories == 3
    assert [row.tolist() for row in map(new.category_ancestors.__getitem__, range(3))] == [
        [],
        [0],
        [],
    ]
    assert new.levels[:3].tolist() == [2, 3, 1]
    assert hierarchy_in_order(vocabulary, [7, 3, 11]) is old


def test_one_evaluator_serves_several_protocols_in_detectron2s_form(tmp_path):
    name, outputs = make_random_set(tmp_path, np.random.default_rng(8))
    evaluator = build_evaluator(
        dataset_name=name, vocabulary=VOCABULARY, protocols=["coco", "lvis", "v3det"]
    )
    assert isinstance(evaluator, ColumnEvaluator)
    results = evaluate(evaluator, outputs)
    assert list(results) == ["bbox", "lvis", "v3det"]
    assert "APf" in results["lvis"] and "AP_depth_2" in results["v3det"]
    evaluator.reset()
    again = evaluate(evaluator, outputs)
    assert again["bbox"]["AP"] == results["bbox"]["AP"]


def test_a_set_that_numbers_its_categories_differently_is_refused(tmp_path):
    name = register(tmp_path, [], [1], thing_classes=["b", "a", "c"])
    with pytest.raises(ValueError, match=r"annotations.json numbers its categories differently"):
        build_evaluator(dataset_name=name, vocabulary=VOCABULARY)
    same = register(tmp_path, [], [1], thing_classes=["a", "bee", "c"])
    build_evaluator(dataset_name=same, vocabulary=VOCABULARY)

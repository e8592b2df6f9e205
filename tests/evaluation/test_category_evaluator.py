import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from pycocotools.cocoeval import COCOeval

from cqdino_d2.evaluation import CategoryDetectionEvaluator, category_recall, load_ground_truth

CATEGORY_IDS = [7, 3, 11]  # dataset ids of vocab ids 0, 1, 2


def annotation(index, image_id, category_id, bbox):
    return {"id": index, "image_id": image_id, "category_id": category_id, "bbox": bbox}


def register(folder, annotations, image_ids):
    content = {
        "images": [{"id": i, "width": 200, "height": 200, "file_name": f"{i}"} for i in image_ids],
        "categories": [{"id": i, "name": str(i)} for i in CATEGORY_IDS],
        "annotations": annotations,
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    name = f"test_{folder.name}_{len(MetadataCatalog.list())}"
    MetadataCatalog.get(name).set(
        json_file=str(path),
        thing_dataset_id_to_contiguous_id={d: v for v, d in enumerate(CATEGORY_IDS)},
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
    evaluator = CategoryDetectionEvaluator(dataset_name=register(tmp_path, boxes, [1]))
    found = output([[10, 10, 50, 50], [100, 100, 150, 130]], [0.9, 0.8], [0, 1], [0, 2])
    evaluator.process([{"image_id": 1}], [found])
    results = evaluator.evaluate()
    box = results["bbox"]
    assert box["AP"] == pytest.approx((100 + 30) / 2)
    assert (box["AP50"], box["AP75"]) == pytest.approx((100, 50))
    assert box["AR@300"] == pytest.approx((100 + 30) / 2)
    assert np.isnan(box["APs"]) and box["APm"] == pytest.approx(65)
    assert results["selection"] == pytest.approx({"ARC": 50, "ARC_macro": 50})


def make_random_set(folder, rng):
    annotations, outputs = [], {}
    for image in range(1, 16):
        boxes, classes = [], []
        for _ in range(rng.integers(0, 5)):
            left, top, width, height = (
                rng.uniform(0, 100),
                rng.uniform(0, 100),
                *rng.uniform(5, 99, 2),
            )
            vocab_id = int(rng.integers(3))
            annotations.append(
                annotation(
                    len(annotations) + 1, image, CATEGORY_IDS[vocab_id], [left, top, width, height]
                )
                | {"iscrowd": int(rng.random() < 0.1)}
            )
            boxes.append(np.array([left, top, left + width, top + height]) + rng.normal(0, 6, 4))
            classes.append(vocab_id if rng.random() < 0.8 else int(rng.integers(3)))
        scores = rng.random(len(boxes)).round(1)
        outputs[image] = output(np.array(boxes).tolist(), scores.tolist(), classes)
    return register(folder, annotations, range(1, 16)), outputs


def test_figures_equal_pycocotools(tmp_path):
    """The summary of pycocotools itself is right at its own maxDets [1, 10, 100]."""
    name, outputs = make_random_set(tmp_path, np.random.default_rng(3))
    for max_dets in (100, 300):
        evaluator = CategoryDetectionEvaluator(
            dataset_name=name, max_dets=max_dets, output_dir=str(tmp_path / "out")
        )
        for image_id, prediction in outputs.items():
            evaluator.process([{"image_id": image_id}], [prediction])
        results = evaluator.evaluate()
        assert "selection" not in results
        truth = load_ground_truth(tmp_path / "annotations.json")
        saved = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
        with redirect_stdout(io.StringIO()):
            official = COCOeval(truth, truth.loadRes(saved), "bbox")
            official.evaluate()
            official.accumulate()
            official.summarize()
        wanted = 100 * official.stats[[0, 1, 2, 3, 4, 5, 8]]
        wanted[wanted < 0] = np.nan
        np.testing.assert_allclose(list(results["bbox"].values()), wanted, atol=0.02)


def test_no_detection_at_all_is_zero(tmp_path):
    name = register(tmp_path, [annotation(1, 5, 7, [0, 0, 40, 40])], [5])
    evaluator = CategoryDetectionEvaluator(dataset_name=name)
    evaluator.process([{"image_id": 5}], [output([], [], [])])
    assert evaluator.evaluate()["bbox"]["AP"] == 0


def test_category_recall_by_hand():
    present = {1: {0, 1}, 2: {1}, 3: set(), 4: {2}}
    selected = {1: [0, 5], 2: [1], 3: [0]}  # image 4 was not predicted
    figures = category_recall(selected, present)
    assert figures["ARC"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert figures["ARC_macro"] == pytest.approx(100 * (1 + 0.5) / 2)


def test_errors_name_what_is_wrong(tmp_path):
    name = register(tmp_path, [annotation(1, 5, 7, [0, 0, 4, 4])], [5])
    evaluator = CategoryDetectionEvaluator(dataset_name=name)
    with pytest.raises(ValueError, match="no image of"):
        evaluator.evaluate()
    with pytest.raises(ValueError, match="image 6 is not in .*annotations.json"):
        evaluator.process([{"image_id": 6}], [output([], [], [])])
    evaluator.process([{"image_id": 5}], [output([], [], [])])
    with pytest.raises(ValueError, match="image 5 was predicted twice"):
        evaluator.process([{"image_id": 5}], [output([], [], [])])
    with pytest.raises(ValueError, match="no json_file"):
        CategoryDetectionEvaluator(dataset_name="never_registered")
    bad = register(tmp_path, [annotation(1, 5, 99, [0, 0, 4, 4])], [5])
    with pytest.raises(ValueError, match=r"unknown categories: \[99\]"):
        CategoryDetectionEvaluator(dataset_name=bad).process(
            [{"image_id": 5}], [output([], [], [])]
        )


def test_processes_gather_to_the_same_figures(tmp_path, monkeypatch):
    name, outputs = make_random_set(tmp_path, np.random.default_rng(3))

    def evaluator_of(images):
        evaluator = CategoryDetectionEvaluator(dataset_name=name)
        for image_id in images:
            prediction = outputs[image_id] | {"selected_vocab_ids": torch.tensor([0, 2])}
            evaluator.process([{"image_id": image_id}], [prediction])
        return evaluator

    alone = evaluator_of(outputs).evaluate()
    sent = []
    monkeypatch.setattr(comm, "gather", lambda share: sent.append(share) or sent)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert evaluator_of([i for i in outputs if i % 2]).evaluate() == {}
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    together = evaluator_of([i for i in outputs if not i % 2]).evaluate()
    assert together["bbox"] == pytest.approx(alone["bbox"], nan_ok=True)
    assert together["selection"] == alone["selection"]
    with pytest.raises(ValueError, match="several processes predicted the same"):
        evaluator_of([1]).evaluate()

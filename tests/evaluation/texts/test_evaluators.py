"""From a predictor's instances to figures."""

import json

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import nn

from cqdino_d2.data import (
    CategoryDatasetMapper,
    build_test_loader,
    get_prompted_records,
    get_test_records,
    register_all,
)
from cqdino_d2.engine import launch
from cqdino_d2.evaluation import SetsEvaluator, TextEvaluator, build_evaluator

from ...annotation_sets import clean_catalogs, write_json  # noqa: F401
from ...text_sets import (
    SIZE,
    expressions,
    generalised,
    odinw_set,
    write_odinw_set,
    write_text_sets,
)


def instances(rows, size=SIZE):
    """Rows of (XYWH box, score, thing)."""
    found = Instances(size)
    boxes = torch.tensor([box for box, _, _ in rows], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found.pred_boxes = Boxes(boxes)
    found.scores = torch.tensor([score for _, score, _ in rows], dtype=torch.float32)
    found.pred_classes = torch.tensor([thing for _, _, thing in rows], dtype=torch.int64)
    return {"instances": found}


class FakePredictor(nn.Module):
    """Answers from a table: (set name or None, image_id) -> rows; nothing for other images."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers
        self.prompts = []

    def forward(self, batch):
        self.prompts += [sample["prompt"].caption for sample in batch]
        keys = [(sample.get("set_name"), sample["image_id"]) for sample in batch]
        return [instances(self.answers.get(key, [])) for key in keys]


@pytest.fixture
def text_root(tmp_path):
    register_all(write_text_sets(tmp_path))
    return tmp_path


def run(records, evaluator, answers):
    mapper = CategoryDatasetMapper(augmentations=[], is_train=False)
    loader = build_test_loader(dataset=records, mapper=mapper, num_workers=0, batch_size=2)
    evaluator.check()
    model = FakePredictor(answers)
    return inference_on_dataset(model, loader, evaluator), model


FAR = [60, 40, 20, 20]


def test_expressions(text_root):
    """Of refcoco 10 is found at once; of refcocog 12 at the second place, 13 at once, 14 never."""
    answers = {
        (None, 10): [([0, 5, 20, 20], 0.3, 0)],
        (None, 12): [([20, 5, 20, 20], 0.4, 0), (FAR, 0.5, 0)],
        (None, 13): [(FAR, 0.5, 0), ([30, 5, 20, 20], 0.6, 0)],
        (None, 14): [(FAR, 0.9, 0)],
    }
    evaluator = build_evaluator(
        dataset_name="refcoco_val", vocabulary=None, output_dir=str(text_root / "out")
    )
    assert isinstance(evaluator, TextEvaluator)
    results, model = run(get_test_records("refcoco_val"), evaluator, answers)
    assert results["refcoco"] == pytest.approx({"recall@1": 50, "recall@5": 50, "recall@10": 50})
    assert results["refcocog"]["recall@1"] == pytest.approx(100 / 3)
    assert results["refcocog"]["recall@5"] == pytest.approx(200 / 3)
    assert results["refexp"]["recall@5"] == pytest.approx((50 + 200 / 3) / 2)
    assert model.prompts[:2] == ["the left dog.", "A dog, sleeping."]
    saved = json.loads((text_root / "out/text_results.json").read_text())
    assert len(saved) == 6
    first = next(row for row in saved if row["image_id"] == 10)
    assert first["bbox"] == [0, 5, 20, 20] and first["category_id"] == 0
    assert first["score"] == pytest.approx(0.3)


def test_generalised_expressions(text_root):
    """3 and 2 are right, 1 has a box too many, 5 one that must not be."""
    answers = {
        (None, 3): [([0, 0, 10, 10], 0.9, 0), ([40, 0, 10, 10], 0.8, 0), (FAR, 0.5, 0)],
        (None, 1): [([30, 30, 20, 20], 0.9, 0), (FAR, 0.75, 0)],
        (None, 2): [(FAR, 0.6, 0)],
        (None, 5): [(FAR, 0.7, 0)],
    }
    evaluator = build_evaluator(dataset_name="grefcoco_val", vocabulary=None)
    results, _ = run(get_test_records("grefcoco_val"), evaluator, answers)
    assert results["grefcoco"] == {"Pr@F1": 50, "N-acc": 50, "T-acc": 100}


def test_phrases(text_root):
    answers = {
        (None, 0): [([0, 0, 30, 50], 0.9, 0), (FAR, 0.8, 1), ([5, 0, 10, 10], 0.7, 1)],
        (None, 2): [([30, 0, 20, 20], 0.2, 0), ([40, 40, 10, 10], 0.9, 0)],
    }
    evaluator = build_evaluator(dataset_name="flickr30k_val", vocabulary=None)
    results, model = run(get_test_records("flickr30k_val"), evaluator, answers)
    assert results["flickr30k"] == {
        "recall@1": 25, "recall@5": 75, "recall@10": 75, "recall@all": 75,
    }  # fmt: skip
    assert model.prompts == ["A man with a red hat .", "Two dogs and a ball."]


def test_sets_of_odinw(tmp_path, caplog):
    """Pothole is found perfectly, of the pistols' two images one; VOC is not there."""
    register_all(tmp_path)
    content = odinw_set(["pothole"], [0, 1])
    write_odinw_set(tmp_path, "pothole/valid", content)
    write_odinw_set(
        tmp_path,
        "thermalDogsAndPeople/valid",
        odinw_set(["dog", "person"], [0, 1]),
    )
    names = ["odinw13_pothole", "odinw13_PascalVOC", "odinw13_thermalDogsAndPeople"]
    answers = {
        ("odinw13_pothole", 0): [([0, 10, 16, 20], 0.9, 0)],
        ("odinw13_pothole", 1): [([0, 10, 16, 30], 0.9, 0)],
        # 'person' in both images, 'dog' in none
        ("odinw13_thermalDogsAndPeople", 0): [([20, 10, 16, 20], 0.9, 1)],
        ("odinw13_thermalDogsAndPeople", 1): [([20, 10, 16, 30], 0.9, 1)],
    }
    evaluator = build_evaluator(
        dataset_name=names, vocabulary=None, output_dir=str(tmp_path / "out")
    )
    assert isinstance(evaluator, SetsEvaluator)
    with caplog.at_level("INFO"):
        results, model = run(get_prompted_records(names), evaluator, answers)
    assert list(results) == ["odinw13_pothole", "odinw13_thermalDogsAndPeople", "mean"]
    assert results["odinw13_pothole"]["AP"] == pytest.approx(100)
    assert results["odinw13_thermalDogsAndPeople"]["AP"] == pytest.approx(50)
    assert results["mean"] == pytest.approx({"AP": 75, "AP50": 75, "AP75": 75, "sets": 2})
    assert model.prompts == ["pothole."] * 2 + ["dog. person."] * 2
    assert "1 of 3 datasets were not predicted and are in no mean: odinw13_Pas" in caplog.text
    table = next(r.getMessage() for r in caplog.records if "2 datasets:" in r.getMessage())
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["AP", "AP50", "AP75"],
        ["odinw13_pothole", *["100.00"] * 3],
        ["odinw13_thermalDogsAndPeople", *["50.00"] * 3],
        ["mean", *["75.00"] * 3],
    ]
    assert (tmp_path / "out/odinw13_pothole/coco_instances_results.json").is_file()


def test_several_files_of_expressions(text_root):
    path = text_root / "coco/mdetr_annotations/finetune_refcoco_testA.json"
    content = expressions()
    for row in content["images"]:
        row["dataset_name"] = "refcoco"
    write_json(path, content)
    names = ["refcoco_val", "refcoco_testA", "refcoco_testB", "grefcoco_val"]
    evaluator = build_evaluator(dataset_name=names, vocabulary=None)
    answers = {("refcoco_testA", 10): [([0, 5, 20, 20], 0.9, 0)]}
    results, _ = run(get_prompted_records(names), evaluator, answers)
    assert results["refcoco_testA.refcoco"]["recall@1"] == pytest.approx(20)
    assert results["refcoco_val.refcoco"]["recall@1"] == 0
    assert results["grefcoco_val"]["N-acc"] == 100
    assert "mean" not in results


def test_a_set_without_boxes_is_in_no_mean(tmp_path, caplog):
    register_all(tmp_path)
    write_odinw_set(tmp_path, "pothole/valid", odinw_set(["pothole"], [0]))
    empty = odinw_set(["raccoon"], [0]) | {"annotations": []}
    write_odinw_set(tmp_path, "Raccoon/Raccoon.v2-raw.coco/valid", empty)
    names = ["odinw13_pothole", "odinw13_Raccoon"]
    evaluator = build_evaluator(dataset_name=names, vocabulary=None)
    answers = {("odinw13_pothole", 0): [([0, 10, 16, 20], 0.9, 0)]}
    results, _ = run(get_prompted_records(names), evaluator, answers)
    assert results["mean"]["AP"] == pytest.approx(100) and results["mean"]["sets"] == 1
    assert "odinw13_Raccoon have no boxes" in caplog.text


def test_no_set_is_there(tmp_path):
    register_all(tmp_path)
    names = ["odinw13_pothole", "odinw13_Raccoon"]
    evaluator = build_evaluator(dataset_name=names, vocabulary=None)
    with pytest.raises(FileNotFoundError, match="none of the 2 datasets is there; of 'odinw13_p"):
        evaluator.check()
    with pytest.raises(ValueError, match="no image of the 2 datasets was predicted"):
        evaluator.evaluate()
    with pytest.raises(ValueError, match="no dataset is named"):
        build_evaluator(dataset_name=[], vocabulary=None)


def test_a_text_that_was_not_predicted_is_missed(text_root, caplog):
    evaluator = TextEvaluator(dataset_name="grefcoco_val")
    evaluator.process([{"image_id": 2}], [instances([])])
    assert evaluator.evaluate()["grefcoco"] == {"Pr@F1": 25, "N-acc": 50, "T-acc": 0}
    assert "Only 1 of 4 texts of grefcoco_val were predicted" in caplog.text
    evaluator.reset()
    with pytest.raises(ValueError, match="no image of 'grefcoco_val' was predicted"):
        evaluator.evaluate()


def test_two_processes_with_the_same_text(text_root, monkeypatch):
    evaluator = TextEvaluator(dataset_name="refcoco_val")
    evaluator.process([{"image_id": 10}], [instances([])])
    monkeypatch.setattr(comm, "gather", lambda share: [share, share])
    with pytest.raises(ValueError, match="several processes predicted the same images"):
        evaluator.evaluate()


@pytest.mark.parametrize(
    ("image_id", "rows", "message"),
    [
        (99, [], "image 99 is not in .*finetune_refcoco_val"),
        (10, [(FAR, 0.5, 1)], r"image 10: the detector found things \[1\], its text names 1"),
        (10, [(FAR, 0.5, -1)], r"found things \[-1\]"),
        (10, [(FAR, float("nan"), 0)], "image 10: the detector gave boxes or scores that are not"),
        (10, [([0, 0, float("inf"), 1], 0.1, 0)], "are not finite"),
    ],
)
def test_predictions_that_cannot_be_scored(text_root, image_id, rows, message):
    evaluator = TextEvaluator(dataset_name="refcoco_val")
    with pytest.raises(ValueError, match=message):
        evaluator.process([{"image_id": image_id}], [instances(rows)])


def test_an_image_that_comes_twice_or_is_of_another_set(text_root):
    evaluator = TextEvaluator(dataset_name="refcoco_val")
    evaluator.process([{"image_id": "10"}], [instances([])])  # ids by their spelling
    with pytest.raises(ValueError, match="image 10 was predicted twice"):
        evaluator.process([{"image_id": 10}], [instances([])])
    several = SetsEvaluator({"refcoco_val": evaluator})
    with pytest.raises(ValueError, match="image 3 is of the set 'x', expected one of refcoco_val"):
        several.process([{"image_id": 3, "set_name": "x"}], [instances([])])


def test_wrong_metadata(text_root):
    MetadataCatalog.get("odd_texts").set(json_file="x.json", evaluator_type="poems")
    with pytest.raises(ValueError, match="refexp, grefcoco, flickr30k, got 'poems'"):
        TextEvaluator(dataset_name="odd_texts")
    MetadataCatalog.get("no_texts").set(evaluator_type="refexp")
    with pytest.raises(ValueError, match="'no_texts' has no json_file"):
        TextEvaluator(dataset_name="no_texts")
    for name in ("odd_texts", "no_texts"):
        MetadataCatalog.pop(name)
    with pytest.raises(ValueError, match="'refcoco_val' is a set of texts: it has no protocols"):
        build_evaluator(dataset_name="refcoco_val", vocabulary=None, protocols=["coco"])


def test_a_file_that_cannot_be_read_ends_before_anything_is_predicted(text_root):
    content = generalised()
    del content["images"][0]["caption"]
    write_json(text_root / "coco/mdetr_annotations/finetune_grefcoco_val.json", content)
    evaluator = build_evaluator(dataset_name=["grefcoco_val", "refcoco_val"], vocabulary=None)
    with pytest.raises(ValueError, match="image 3 has the caption None"):
        evaluator.check()


def predict_a_share(root, answers):
    """One of two processes: predicts the images that the sampler gives it."""
    register_all(root)
    names = ["grefcoco_val", "odinw13_pothole"]
    evaluator = build_evaluator(dataset_name=names, vocabulary=None)
    results, model = run(get_prompted_records(names), evaluator, answers)
    shares = comm.gather(len(model.prompts))
    if comm.is_main_process():
        assert shares == [3, 3]
        write_json(root / "found.json", results)
    else:
        assert not results


def test_two_processes_find_the_same(text_root):
    """Three texts are the first process's share; the set of boxes is only in the second's."""
    write_odinw_set(text_root, "pothole/valid", odinw_set(["pothole"], [0, 1]))
    answers = {
        ("grefcoco_val", 3): [([0, 0, 10, 10], 0.9, 0), ([40, 0, 10, 10], 0.8, 0)],
        ("grefcoco_val", 5): [(FAR, 0.7, 0)],
        ("odinw13_pothole", 1): [([0, 10, 16, 30], 0.9, 0)],
    }
    names = ["grefcoco_val", "odinw13_pothole"]
    evaluator = build_evaluator(dataset_name=names, vocabulary=None)
    alone, _ = run(get_prompted_records(names), evaluator, answers)
    assert alone["grefcoco_val"] == {"Pr@F1": 50, "N-acc": 50, "T-acc": 50}
    assert alone["odinw13_pothole"]["AR@300"] == pytest.approx(50)
    launch(predict_a_share, args=(text_root, answers), processes_per_machine=2)
    found = json.loads((text_root / "found.json").read_text())
    assert found["grefcoco_val"] == alone["grefcoco_val"]
    assert found["odinw13_pothole"]["AP"] == pytest.approx(alone["odinw13_pothole"]["AP"])


def test_fixed_ap_has_no_limit_per_image(tmp_path):
    """Of two right detections in one image LVIS' own rules count one at max_dets=1."""
    register_all(tmp_path)
    content = odinw_set(["cat", "dog"], [1])
    content["images"][0] |= {
        "coco_url": "http://x/val2017/1.png",
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
    }
    for row in content["categories"]:
        row["frequency"] = "f"
    write_json(tmp_path / "lvis/lvis_v1_minival_inserted_image_name.json", content)
    found = instances([([0, 10, 16, 20], 0.9, 0), ([20, 10, 16, 20], 0.8, 1)])
    evaluator = build_evaluator(
        dataset_name="cq_lvis_v1_minival_inserted_image_name",
        vocabulary=None,
        max_dets=1,
        protocols=["lvis-fixed", "lvis"],
    )
    evaluator.check()
    evaluator.process([{"image_id": 1}], [found])
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["lvis"]["AP"] == pytest.approx(50)

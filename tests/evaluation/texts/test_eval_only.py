"""`train_net.py --eval-only` on sets with prompts: the command, but for the model."""

import json
import logging
import sys

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

import train_net
from cqdino_d2.data import register_all
from cqdino_d2.engine import load_config

from ...annotation_sets import clean_catalogs, write_json  # noqa: F401
from ...text_sets import expressions, odinw_set, write_odinw_set, write_text_sets
from ...tiny import ROOT

CONFIG = "tests/evaluation/texts/fake_config.py"
ANSWERS = {
    "refcoco_val/10": [[[0, 5, 20, 20], 0.5, 0]],
    "refcoco_val/12": [[[60, 40, 20, 20], 0.9, 0], [[20, 5, 20, 20], 0.5, 0]],
    "grefcoco_val/1": [[[30, 30, 20, 20], 0.4, 0]],
    "flickr30k_val/2": [[[0, 0, 20, 20], 0.5, 0], [[40, 40, 10, 10], 0.5, 1]],
    "odinw13_pothole/0": [[[0, 10, 16, 20], 0.5, 0]],
}


@pytest.fixture
def text_root(tmp_path):
    root = write_text_sets(tmp_path)
    write_odinw_set(root, "pothole/valid", odinw_set(["pothole"], [0]))
    write_json(root / "answers.json", ANSWERS)
    torch.save({"model": {"scale": torch.tensor(2.0)}}, root / "model.pth")
    return root


def evaluate(root, monkeypatch, names, *overrides):
    """The command in this process, to save the imports."""
    monkeypatch.setattr("detectron2.utils.logger.setup_logger", lambda *args, **kwargs: None)
    monkeypatch.setattr(logging.getLogger("cqdino_d2"), "propagate", False)  # as in the program
    monkeypatch.chdir(ROOT)
    arguments = [
        *("--config-file", CONFIG, "--num-gpus", "0", "--eval-only"),
        f"train.init_checkpoint={root / 'model.pth'}",
        f"train.output_dir={root / 'out'}",
        f"train.datasets_root={root}",
        f"model.answers={root / 'answers.json'}",
        f"dataloader.test.dataset.names={names}",
        *overrides,
    ]
    monkeypatch.setattr(sys, "argv", ["train_net.py", *arguments])
    train_net.main()
    return json.loads((root / "out/results.json").read_text())


def test_all_kinds_at_once(text_root, monkeypatch):
    names = "[refcoco_val,grefcoco_val,flickr30k_val,odinw13_pothole,odinw13_Raccoon]"
    results = evaluate(text_root, monkeypatch, names)
    assert results["refcoco_val.refcoco"]["recall@1"] == 50
    assert results["refcoco_val.refcocog"]["recall@1"] == 0
    assert results["refcoco_val.refcocog"]["recall@5"] == pytest.approx(100 / 3)
    # 0.4 times the checkpoint's 2 is above the threshold
    assert results["grefcoco_val"] == {"Pr@F1": 75, "N-acc": 100, "T-acc": 50}
    assert results["flickr30k_val"]["recall@all"] == 50
    assert results["odinw13_pothole"]["AP"] == pytest.approx(100)
    assert (text_root / "out/flickr30k_val/text_results.json").is_file()


def test_one_set_has_plain_tasks(text_root, monkeypatch):
    results = evaluate(text_root, monkeypatch, "odinw13_pothole")
    assert results["bbox"]["AP"] == pytest.approx(100) and results.keys() == {"bbox"}


@pytest.mark.parametrize(
    ("names", "change", "message"),
    [
        ("[odinw35_dice,odinw35_BCCD]", {}, "none of the 2 datasets is there"),
        ("refcoco_val", {"caption": None}, "image 11 has the caption None"),
        ("refcoco_val", {"dataset_name": "refclef"}, "the dataset_name 'refclef', expected one"),
        ("refcoco_testA", {}, "finetune_refcoco_testA.json; expected layout"),
        ("refcoco_nowhere", {}, "'refcoco_nowhere' is not registered"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    text_root, monkeypatch, capfd, names, change, message
):
    content = expressions()
    content["images"][1] |= change
    write_json(text_root / "coco/mdetr_annotations/finetune_refcoco_val.json", content)
    with pytest.raises(SystemExit) as stop:
        evaluate(text_root, monkeypatch, names)
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *(("refcoco", 6), ("grefcoco", 3), ("flickr30k", 2), ("odinw13", 13), ("odinw35", 35)),
        *(("coco_prompted", 1), ("lvis_minival", 1)),
    ],
)
def test_the_configs_name_registered_sets(tmp_path, name, count):
    """And build their evaluators."""
    register_all(tmp_path)
    cfg = LazyConfig.load(str(ROOT / f"configs/data/{name}.py"))
    cfg.train = {"output_dir": str(tmp_path)}
    names = cfg.dataloader.test.dataset.names
    assert len([names] if isinstance(names, str) else names) == count
    cfg.dataloader.evaluator.vocabulary = None
    evaluator = instantiate(cfg.dataloader.evaluator)
    with pytest.raises(FileNotFoundError, match="no such file"):
        evaluator.check()
    with pytest.raises(FileNotFoundError, match="no such file"):
        instantiate(cfg.dataloader.test)


def test_the_settings_of_a_config_can_be_overridden():
    overrides = ["dataloader.test.dataset.wordings=true", "dataloader.test.num_workers=1"]
    cfg = load_config(ROOT / CONFIG, overrides)
    assert cfg.dataloader.test.dataset.wordings is True

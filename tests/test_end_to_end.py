"""The true detector and data path through train_net.py and DefaultPredictor."""

import json

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.prediction import get_predictor_cfg
from tests.runs import ROOT, assert_same_weights, kill_after_checkpoint, losses, run

CONFIG = "configs/emojidet/tiny_tree.py"
SETTINGS = [
    "train.max_iter=10",
    "train.checkpointer.period=4",
    "train.log_period=1",
    "train.log_window=1",
]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    settings = EmojiDetSettings(
        categories=12, train_images=16, val_images=6, interior_categories=True
    )
    build_emojidet(root / "emojidet", settings, workers=1, progress=False)
    return root


@pytest.fixture(autouse=True)
def use_datasets(datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))


def train(folder, *arguments, expect=0):
    return run(folder, *SETTINGS, *arguments, config=CONFIG, expect=expect)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    """With denoising and dropout on, batches in parts and the moving average: bit for bit."""
    settings = ["train.ema.enabled=true", "train.max_iter=30", "train.accumulate=2"]
    train(tmp_path / "whole", *settings)
    broken = tmp_path / "broken"
    kill_after_checkpoint(broken, "model_0000003.pth", *SETTINGS, *settings, config=CONFIG)
    assert not (broken / "model_final.pth").exists()
    train(broken, "--resume", *settings)
    assert len(losses(broken)) == 30
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


def test_two_processes_train_as_one(tmp_path):
    """With the batch in parts, a shared optimizer and blocks that are computed twice."""
    plain = ["model.denoising=null", "model.selection.dropout=0"]
    switches = [
        "train.accumulate=2",
        "train.shard_optimizer=true",
        "train.activation_checkpointing=[backbone.stages.*.*,encoder.*.*,decoder.layers.*]",
    ]
    train(tmp_path / "one", *plain)
    train(tmp_path / "two", *plain, *switches, "--num-cpu-processes", "2")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 10
    for iteration, row in one.items():
        assert two[iteration] == pytest.approx(row, rel=1e-3)
    weights = [torch.load(tmp_path / n / "model_inference.pth")["model"] for n in ("one", "two")]
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-3, atol=1e-5)


def test_a_training_can_be_used_without_its_data(tmp_path, monkeypatch):
    train(tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results) == {"bbox", "lvis", "v3det", "selection"}
    assert {"AP", "APs", "AR@300"} <= results["bbox"].keys()
    assert {"APr", "APc", "APf"} <= results["lvis"].keys()
    assert {"AP_base", "AP_novel", "AP_ovd"} <= results["v3det"].keys()
    weights = tmp_path / "run" / "model_inference.pth"
    train(tmp_path / "eval", "--eval-only", f"train.init_checkpoint={weights}")
    assert json.loads((tmp_path / "eval" / "results.json").read_text()) == results
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    cfg = get_predictor_cfg(ROOT / CONFIG, weights=weights, device="cpu")
    predictor = DefaultPredictor(cfg)
    found = predictor(np.full((100, 140, 3), 127, dtype=np.uint8))["instances"]
    assert found.image_size == (100, 140) and len(found) > 0
    assert int(found.pred_classes.max()) < len(predictor.metadata.thing_classes)


def test_the_two_stages(tmp_path):
    """A tagger is trained and scored; the detector starts from its weights."""
    tagger = tmp_path / "stage1"
    run(tagger, *SETTINGS, config="configs/emojidet/tiny_stage1.py")
    results = json.loads((tagger / "results.json").read_text())
    assert set(results) == {"tagging", "selection"}
    assert results["tagging"]["mAP"] >= 0 and results["selection"]["ARC"] > 0
    weights = tagger / "model_inference.pth"
    log = train(tmp_path / "stage2", f"train.init_checkpoint={weights}", "optimizer.lr=0")
    assert "weights fit" in log and "missing in the checkpoint" in log
    first = torch.load(weights, weights_only=True)["model"]
    second = torch.load(tmp_path / "stage2" / "model_inference.pth", weights_only=True)["model"]
    for name, value in first.items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(second[name], value), name


def test_missing_data_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    log = run(tmp_path / "run", config=CONFIG, expect=2)
    assert "emojidet_train.json" in log and "make_emojidet.py" in log
    assert not list((tmp_path / "run").glob("*.pth"))


def test_a_second_training_in_a_used_folder_can_be_resumed(tmp_path):
    """What the first one left is not counted among the checkpoints to keep."""
    train(tmp_path, "train.max_iter=12")
    train(tmp_path, "train.max_iter=4")
    assert (tmp_path / "model_0000003.pth").is_file()
    assert "were done before" in train(tmp_path, "--resume", "train.max_iter=4")


def test_what_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": {"a": torch.zeros(1)}}, path)
    log = train(tmp_path / "run", "--eval-only", f"train.init_checkpoint={path}", expect=2)
    assert "other.pth does not fit this config" in log
    torch.save({"meta": {"epoch": 1}}, path)
    log = train(tmp_path / "run", "--eval-only", f"train.init_checkpoint={path}", expect=2)
    assert "other.pth" in log and "Traceback" not in log

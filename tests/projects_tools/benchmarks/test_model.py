"""The benchmark of a whole model, with a tiny one."""

import copy
import json

import pytest
import torch
from benchmarks import model as benchmark_model

from cqdino_d2.ops import compiled
from tests.plain_model import plain
from tests.tiny import ROOT, make_input, tiny_model

TINY = ["--config-file", str(ROOT / "configs/emojidet/tiny_tree.py"), "--categories", "40"]
TINY += ["--size", "64", "96", "--repeats", "1"]


def test_both_sides_are_timed_and_predict_the_same(tmp_path, capsys):
    arguments = [*TINY, "--bfloat16", "--json", str(tmp_path / "model.json")]
    assert benchmark_model.main(arguments) == 0
    result = json.loads((tmp_path / "model.json").read_text())
    assert set(result["seconds"]) == {"plain", "ours", "bfloat16"}
    stages = result["seconds"]["ours"]
    assert {"backbone", "selection", "encoder", "decoder", "total"} <= set(stages)
    for side in result["seconds"].keys() - {"plain"}:
        assert result["seconds"][side].pop("categories") == 0  # kept since the first pass
    assert all(seconds > 0 for side in result["seconds"].values() for seconds in side.values())
    assert result["flops"]["plain"]["categories"] > result["flops"]["ours"]["categories"] == 0
    assert result["floor"]["encoder"] * result["operations_per_second"] == pytest.approx(
        result["flops"]["ours"]["encoder"]
    )
    assert result["against_plain"]["ours"]["categories"] == 1
    assert "ours against plain: 100.0% of the categories" in capsys.readouterr().out


def test_other_predictions_are_noticed(monkeypatch, capsys):
    class Other:
        def __init__(self, model):
            self.head = model.decoder.class_heads[-1]

        def __enter__(self):
            self.head.bias.data += 0.1

        def __exit__(self, *_):
            self.head.bias.data -= 0.1

    monkeypatch.setattr(benchmark_model, "plain", Other)
    assert benchmark_model.main(TINY) == 1
    assert "not those of the plain formulation" in capsys.readouterr().err


def test_predictions_are_compared_by_category_score_and_box():
    with torch.no_grad():
        expected = tiny_model().eval()([make_input()])[0]
    same = benchmark_model.compare(expected, expected)
    assert same == {"categories": 1.0, "detections": 1.0, "score": 0.0}
    moved = copy.deepcopy(expected)
    moved["instances"].pred_boxes.tensor += 1
    assert benchmark_model.compare(expected, moved)["detections"] < 0.5
    scored = copy.deepcopy(expected)
    scored["instances"].scores += 0.01
    assert benchmark_model.compare(expected, scored)["detections"] < 0.5


def test_the_plain_side_is_plain(monkeypatch):
    """Inside, neither the compiled operators nor the fused attention run."""
    model = tiny_model().eval()
    fused = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: fused.append(1) or attention(*args, **kwargs),
    )
    with torch.no_grad(), plain(model):
        assert not compiled.DEVICES
        model([make_input()])
    assert not fused
    with torch.no_grad():
        model([make_input()])
    assert fused

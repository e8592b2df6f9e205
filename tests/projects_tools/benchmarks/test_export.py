"""The benchmark of exported files: every side runs, and says how far it is from eager mode."""

import re

import pytest
import torch
from benchmarks import export

from cqdino_d2.structures import random_vocabulary
from tests.projects_tools.test_export import CONFIG, SMALL
from tests.tiny import tiny_model


def test_sides_take_turns():
    order = []
    sides = {name: (lambda name=name: order.append(name)) for name in ("one", "other")}
    medians = export.measure(sides, rounds=2)
    assert order == ["one", "other"] * 2 and medians.keys() == sides.keys()


@pytest.mark.slow
def test_the_table(tmp_path, capsys):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    model = tiny_model(overrides=SMALL)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    random_vocabulary(40).save(tmp_path / "vocabulary.json")
    given = ["--config-file", CONFIG, "--weights", str(tmp_path / "model.pth"), "--rounds", "1"]
    sides = ["--size", "96", "128", "--sides", "eager", "onnxruntime", "int8"]
    assert export.main([*given, *sides, "--overrides", *SMALL]) == 0
    rows = dict(
        re.findall(r"^\| (\w+) \| [\d,]+ \| \d+\.\d\d \| (\S+) \|", capsys.readouterr().out, re.M)
    )
    assert float(rows["eager"]) == 0 and float(rows["onnxruntime"]) < 1e-4
    assert 1e-6 < float(rows["int8"]) < 0.2  # it is quantised, and no other model


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    given = ["--config-file", CONFIG, "--weights", str(tmp_path / "none.pth")]
    assert export.main(given) == 2
    assert capsys.readouterr().err.count("\n") == 1

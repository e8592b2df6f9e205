"""The timing of a whole model, with a tiny one."""

import pytest
import torch
from benchmarks import time_model

from cqdino_d2.ops import compiled
from tests.tiny import ROOT

TINY = ["--config", str(ROOT / "configs/emojidet/tiny_tree.py"), "--size", "64", "64"]
TINY += ["--batch", "2", "--boxes", "2", "--categories", "30", "--steps", "1"]


@pytest.mark.skipif("cpu" not in compiled.DEVICES, reason="not compiled")
def test_both_backends_are_timed(capsys):
    assert time_model.main(TINY) == 0
    training, prediction = capsys.readouterr().out.splitlines()
    assert training.startswith("training, batch 2: reference ")
    assert prediction.startswith("prediction, one image: reference ")
    assert ", compiled " in training and ", compiled " in prediction


def test_numbers_must_be_finite():
    given = time_model.parse_arguments(TINY)
    model = time_model.build_model(given)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    time_model.train_step(model, optimizer, time_model.make_batch(given))
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        time_model.train_step(model, optimizer, time_model.make_batch(given))


def test_it_says_that_there_is_nothing_to_time(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "DEVICES", frozenset())
    assert time_model.main(TINY) == 1
    assert "not there for cpu" in capsys.readouterr().err

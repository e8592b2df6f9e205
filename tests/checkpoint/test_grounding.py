"""The names of official Grounding DINO checkpoints."""

import json
import math

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from cqdino_d2.checkpoint import convert_official_grounding_weights
from tests.projects_tools.test_check_parity import GROUNDING
from tests.tiny import ROOT

STRUCTURES = sorted(GROUNDING.glob("structure_*.json"))
NAMES = {
    "backbone.0.layers.1.downsample.norm.bias": "backbone.body.layers_2.downsample.norm.bias",
    "backbone.0.norm2.weight": "backbone.norms.1.weight",
    "backbone.0.norm1.weight": "backbone.norms.0.weight",
    "input_proj.1.0.weight": "neck.lateral.1.0.weight",
    "input_proj.3.1.bias": "neck.extra.1.1.bias",
    "transformer.encoder.layers.5.norm1.bias": "encoder.image_layers.5.norm.bias",
    "transformer.encoder.layers.5.linear2.bias": (
        "encoder.image_layers.5.feed_forward.contract.bias"
    ),
    "transformer.encoder.text_layers.0.norm2.bias": "encoder.slot_layers.0.feed_forward.norm.bias",
    "transformer.encoder.text_layers.0.self_attn.in_proj_weight": (
        "encoder.slot_layers.0.attention.in_proj_weight"
    ),
    "transformer.encoder.fusion_layers.1.attn.values_l_proj.bias": (
        "encoder.fusion_layers.1.category_value.bias"
    ),
    "transformer.decoder.layers.2.norm1.weight": "decoder.layers.2.image_norm.weight",
    "transformer.decoder.layers.2.norm2.weight": "decoder.layers.2.self_norm.weight",
    "transformer.decoder.layers.2.norm3.weight": "decoder.layers.2.feed_forward.norm.weight",
    "transformer.decoder.layers.2.catext_norm.weight": "decoder.layers.2.category_norm.weight",
    "transformer.decoder.bbox_embed.0.layers.2.bias": "decoder.box_heads.0.4.bias",
    "transformer.decoder.ref_point_head.layers.1.bias": "decoder.position_mlp.2.bias",
    "bert.encoder.layer.3.output.dense.bias": (
        "categories.language_model.body.encoder.layer.3.output.dense.bias"
    ),
}
LEFT_OUT = (
    "bert.pooler.dense.bias",
    "bert.embeddings.position_ids",
    "bbox_embed.0.layers.0.bias",
    "transformer.decoder.bbox_embed.1.layers.0.bias",
    "backbone.0.layers.0.blocks.1.attn.relative_position_index",
)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_kind_of_name(prefix):
    names = [*NAMES, *LEFT_OUT]
    state = {prefix + name: torch.tensor(float(i)) for i, name in enumerate(names)}
    converted = convert_official_grounding_weights(state)
    assert {name: int(value) for name, value in converted.weights.items()} == {
        ours: i for i, ours in enumerate(NAMES.values())
    }
    assert list(converted.left_out) == [prefix + name for name in LEFT_OUT]
    assert converted.released_name["neck.extra.1.1.bias"] == f"{prefix}input_proj.3.1.bias"


def test_two_names_for_one_weight_are_refused():
    state = {"feat_map.bias": torch.zeros(1), "module.feat_map.bias": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"both become categories\.projection\.bias"):
        convert_official_grounding_weights(state)


@pytest.mark.skipif(not STRUCTURES, reason=f"no structure files in {GROUNDING}")
@pytest.mark.parametrize("path", STRUCTURES, ids=lambda path: path.stem)
def test_a_released_checkpoint_has_all_that_the_full_model_needs(path):
    about = json.loads(path.read_text())
    cfg = LazyConfig.load(str(ROOT / "configs/models/grounding_dino.py"))
    if "SwinB" in path.stem:
        cfg = LazyConfig.load(str(ROOT / "configs/models/grounding_dino_swin_b.py"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
        state = {name: torch.empty(shape) for name, shape in about["state_dict"].items()}
    converted = convert_official_grounding_weights(state)
    expected = {
        name: value.shape
        for name, value in model.state_dict().items()
        if not name.startswith("denoising.")
    }
    assert {name: value.shape for name, value in converted.weights.items()} == expected
    pooler = sum(math.prod(s) for n, s in about["state_dict"].items() if n.startswith("bert.pool"))
    own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("denoising."))
    assert own + pooler == about["parameters"]

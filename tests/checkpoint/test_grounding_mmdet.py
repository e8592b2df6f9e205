"""The names of MM-Grounding-DINO and LLMDet checkpoints of mmdetection."""

import pytest
import torch

from cqdino_d2.checkpoint import convert_mmdet_grounding_weights

BERT = "language_model.language_backbone.body.model"
NAMES = {
    f"{BERT}.encoder.layer.3.intermediate.dense.bias": (
        "categories.language_model.body.encoder.layer.3.intermediate.dense.bias"
    ),
    f"{BERT}.encoder.layer.3.output.LayerNorm.bias": (
        "categories.language_model.body.encoder.layer.3.output.LayerNorm.bias"
    ),
    "text_feat_map.weight": "categories.projection.weight",
    "encoder.text_layers.4.self_attn.attn.in_proj_bias": (
        "encoder.slot_layers.4.attention.in_proj_bias"
    ),
    "encoder.text_layers.4.ffn.layers.0.0.bias": "encoder.slot_layers.4.feed_forward.expand.bias",
    "encoder.text_layers.4.norms.0.bias": "encoder.slot_layers.4.norm.bias",
    "encoder.text_layers.4.norms.1.bias": "encoder.slot_layers.4.feed_forward.norm.bias",
    "encoder.layers.4.norms.1.bias": "encoder.image_layers.4.feed_forward.norm.bias",
    "backbone.norm1.weight": "backbone.norms.0.weight",
    "backbone.stages.0.downsample.norm.bias": "backbone.body.layers_1.downsample.norm.bias",
    "bbox_head.cls_branches.0.bias": "decoder.class_heads.0.bias",
    "bbox_head.cls_branches.6.bias": "query_selection.class_head.bias",
    "bbox_head.reg_branches.5.4.bias": "decoder.box_heads.5.4.bias",
    "bbox_head.reg_branches.6.0.bias": "query_selection.box_head.0.bias",
    "dn_query_generator.label_embedding.weight": "denoising.content.embedding.weight",
}
LEFT_OUT = (
    f"{BERT}.pooler.dense.bias",
    f"{BERT}.embeddings.position_ids",
    "backbone.stages.0.blocks.1.attn.w_msa.relative_position_index",
    "lmm.model.layers.0.mlp.up_proj.weight",
    "region_connector.1.bias",
)


def test_every_kind_of_name():
    state = {name: torch.tensor([float(i)]) for i, name in enumerate([*NAMES, *LEFT_OUT])}
    converted = convert_mmdet_grounding_weights(state)
    assert {name: int(value) for name, value in converted.weights.items()} == {
        ours: i for i, ours in enumerate(NAMES.values())
    }
    assert list(converted.left_out) == list(LEFT_OUT)


def test_the_channels_of_the_patch_merging_are_mmdets_unless_told_otherwise():
    name = "backbone.stages.0.downsample.norm.weight"
    state = {name: torch.arange(8.0)}
    ours = convert_mmdet_grounding_weights(state).weights
    assert ours["backbone.body.layers_1.downsample.norm.weight"].tolist() == [
        0,
        4,
        2,
        6,
        1,
        5,
        3,
        7,
    ]
    kept = convert_mmdet_grounding_weights(state, patch_merging="microsoft").weights
    assert kept["backbone.body.layers_1.downsample.norm.weight"].tolist() == list(range(8))
    with pytest.raises(ValueError, match="got 'other'"):
        convert_mmdet_grounding_weights(state, patch_merging="other")

import pytest
import torch
from torch import nn

from cqdino_d2.checkpoint import convert_released_weights


def test_names_are_converted():
    names = {
        "level_embed": "tokenizer.level_embedding",
        "backbone.stages.0.downsample.norm.weight": "backbone.body.layers_1.downsample.norm.weight",
        "backbone.stages.2.blocks.1.ffn.layers.0.0.bias": (
            "backbone.body.layers_2.blocks.1.mlp.fc1.bias"
        ),
        "backbone.norm1.weight": "backbone.norms.0.weight",
        "backbone.norm3.weight": "backbone.norms.1.weight",
        "bbox_head.cls_branches.0.bias": "decoder.class_heads.0.bias",
        "bbox_head.reg_branches.1.4.bias": "query_selection.box_head.4.bias",
        "encoder.layers.3.ffn.layers.1.weight": (
            "encoder.image_layers.3.feed_forward.contract.weight"
        ),
        "decoder.layers.5.norms.2.bias": "decoder.layers.5.image_norm.bias",
        "language_model.tagging_head.encoder.layer.1.output.LayerNorm.bias": (
            "selection.layers.1.feed_forward.norm.bias"
        ),
        "something.else": "something.else",
    }
    state = {name: torch.full((1,), float(i)) for i, name in enumerate(names)}
    converted = convert_released_weights(state)
    assert list(converted.weights) == list(names.values())
    assert converted.released_name == {ours: name for name, ours in names.items()}
    assert [int(tensor) for tensor in converted.weights.values()] == list(range(len(names)))


def test_derived_buffers_are_left_out_by_name():
    name = "backbone.stages.1.blocks.0.attn.w_msa.relative_position_index"
    converted = convert_released_weights({name: torch.zeros(1)})
    assert list(converted.left_out) == [name] and not converted.weights


def test_two_names_for_one_weight_are_refused():
    state = {n: torch.zeros(1) for n in ("level_embed", "tokenizer.level_embedding")}
    with pytest.raises(ValueError, match=r"tokenizer\.level_embedding and level_embed both become"):
        convert_released_weights(state)


def test_the_other_order_of_patch_merging_is_reordered():
    """Unfold's order with its own weights is Microsoft's order with the reordered ones."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6)
    prefix = "backbone.stages.0.downsample."
    state = {
        f"{prefix}norm.weight": torch.randn(12),
        f"{prefix}reduction.weight": torch.randn(5, 12),
    }
    unfolded = nn.functional.unfold(x, 2, stride=2).transpose(1, 2)
    expected = (unfolded * state[f"{prefix}norm.weight"]) @ state[f"{prefix}reduction.weight"].T
    places = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    merged = torch.cat(places, dim=1).flatten(2).transpose(1, 2)
    ours = convert_released_weights(state, patch_merging="mmdet").weights
    norm, reduction = ours.values()
    torch.testing.assert_close((merged * norm) @ reduction.T, expected)
    with pytest.raises(ValueError, match="patch_merging"):
        convert_released_weights(state, patch_merging="other")

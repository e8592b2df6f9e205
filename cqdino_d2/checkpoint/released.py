"""From the names of the released CQ-DINO checkpoints to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .released_names import INDEX_TABLE, ReleasedConversion, Renaming

MMDET_LEFT_OUT = [
    (r"backbone\.stages\.\d+\.blocks\.\d+\.attn\.w_msa\.relative_position_index", INDEX_TABLE)
]
# mmdetection's names; those that only CQ-DINO has stand under language_model and text_feat_map
MMDET_RULES = [
    (r"^backbone\.patch_embed\.projection\.", "backbone.body.patch_embed.proj."),
    (r"^backbone\.patch_embed\.norm\.", "backbone.body.patch_embed.norm."),
    (r"^backbone\.stages\.(\d+)\.blocks\.", r"backbone.body.layers_\1.blocks."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"^(backbone\..*)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"^(backbone\..*)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"^neck\.convs\.(\d+)\.conv\.", r"neck.lateral.\1.0."),
    (r"^neck\.convs\.(\d+)\.gn\.", r"neck.lateral.\1.1."),
    (r"^neck\.extra_convs\.(\d+)\.conv\.", r"neck.extra.\1.0."),
    (r"^neck\.extra_convs\.(\d+)\.gn\.", r"neck.extra.\1.1."),
    (r"^level_embed$", "tokenizer.level_embedding"),
    (r"^language_model\.label_embed$", "categories.embeddings"),
    (r"^language_model\.wordvec_proj\.", "categories.projection."),
    (r"^language_model\.label_norm\.", "categories.relation.norm."),
    (r"^language_model\.label_attn\.self_attn\.", "categories.relation.attention."),
    (r"^language_model\.label_attn\.norm\.", "categories.relation.norm."),
    (r"^language_model\.image_proj\.", "selection.image_projection."),
    (r"^language_model\.fc\.", "selection.score."),
    (r"^language_model\.tagging_head\.encoder\.layer\.", "selection.layers."),
    (r"\.crossattention\.self\.", ".attention."),
    (r"\.crossattention\.output\.dense\.", ".attention.output."),
    (r"\.crossattention\.output\.LayerNorm\.", ".norm."),
    (r"^(selection\..*)\.intermediate\.dense\.", r"\1.feed_forward.expand."),
    (r"^(selection\..*\d)\.output\.dense\.", r"\1.feed_forward.contract."),
    (r"^(selection\..*\d)\.output\.LayerNorm\.", r"\1.feed_forward.norm."),
    (r"^text_feat_map\.", "selection.output_projection."),
    (r"^(encoder\.fusion_layers\.\d+)\.layer_norm_v\.", r"\1.image_norm."),
    (r"^(encoder\.fusion_layers\.\d+)\.layer_norm_l\.", r"\1.category_norm."),
    (r"^(encoder\.fusion_layers\.\d+)\.gamma_v$", r"\1.image_scale"),
    (r"^(encoder\.fusion_layers\.\d+)\.gamma_l$", r"\1.category_scale"),
    (r"\.attn\.values_v_proj\.", ".image_value."),
    (r"\.attn\.values_l_proj\.", ".category_value."),
    (r"\.attn\.out_v_proj\.", ".image_output."),
    (r"\.attn\.out_l_proj\.", ".category_output."),
    (r"\.attn\.v_proj\.", ".image_query."),
    (r"\.attn\.l_proj\.", ".category_query."),
    (r"^encoder\.layers\.(\d+)\.self_attn\.", r"encoder.image_layers.\1.attention."),
    (r"^encoder\.layers\.(\d+)\.norms\.0\.", r"encoder.image_layers.\1.norm."),
    (r"^encoder\.layers\.(\d+)\.norms\.1\.", r"encoder.image_layers.\1.feed_forward.norm."),
    (r"^encoder\.layers\.(\d+)\.ffn\.", r"encoder.image_layers.\1.ffn."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.attn\.", r"\1.self_attention."),
    (r"^(decoder\.layers\.\d+)\.cross_attn_text\.attn\.", r"\1.category_attention."),
    (r"^(decoder\.layers\.\d+)\.cross_attn\.", r"\1.image_attention."),
    (r"^(decoder\.layers\.\d+)\.norms\.0\.", r"\1.self_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.1\.", r"\1.category_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.2\.", r"\1.image_norm."),
    (r"^(decoder\.layers\.\d+)\.norms\.3\.", r"\1.feed_forward.norm."),
    (r"\.ffn\.layers\.0\.0\.", ".feed_forward.expand."),
    (r"\.ffn\.layers\.1\.", ".feed_forward.contract."),
    (r"^decoder\.ref_point_head\.layers\.0\.", "decoder.position_mlp.0."),
    (r"^decoder\.ref_point_head\.layers\.1\.", "decoder.position_mlp.2."),
    (r"^query_embedding\.", "query_selection.content."),
    (r"^memory_trans_fc\.", "query_selection.projection."),
    (r"^memory_trans_norm\.", "query_selection.norm."),
    (r"^dn_query_generator\.label_embedding\.", "denoising.content.embedding."),
]
MMDET_NAMES = Renaming(
    left_out=MMDET_LEFT_OUT,
    downsample=r"backbone\.stages\.(\d+)\.downsample\.",
    output_norm=r"backbone\.norm(\d+)\.",
    rules=MMDET_RULES,
)
_HEAD = re.compile(r"bbox_head\.(?:cls|reg)_branches\.(\d+)\.")


def convert_released_weights(
    state: Mapping[str, Tensor], *, patch_merging: str = "microsoft"
) -> ReleasedConversion:
    """Renames the weights of a released CQ-DINO checkpoint, tree or self-attention, any size.

    Args:
        state: released name -> tensor.
        patch_merging: order of the channels in the backbone's patch merging. The released
            checkpoints have Microsoft's, which is also timm's and this project's; "mmdet" is that
            of mmdetection's own Swin weights (same names and shapes) and gets reordered.

    Raises:
        ValueError: an unknown order, or two names that become one.
    """
    conversion = MMDET_NAMES.convert(state, head_rules(state))
    return with_microsofts_patch_merging(conversion, patch_merging)


def head_rules(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """The last of all heads scores the encoder's proposals, the others are the decoder's."""
    last = max((int(m[1]) for name in state if (m := _HEAD.match(name))), default=-1)
    rules = []
    for theirs, ours in (("cls", "class"), ("reg", "box")):
        branches = rf"^bbox_head\.{theirs}_branches\."
        rules.append((rf"{branches}{last}\.", f"query_selection.{ours}_head."))
        rules.append((rf"{branches}(\d+)\.", rf"decoder.{ours}_heads.\1."))
    return rules


def with_microsofts_patch_merging(
    conversion: ReleasedConversion, patch_merging: str
) -> ReleasedConversion:
    """The same with the channels of the backbone's patch merging in this project's order.

    Args:
        conversion: under our names.
        patch_merging: the order that they have, "microsoft" or "mmdet".

    Raises:
        ValueError: another one.
    """
    if patch_merging not in ("microsoft", "mmdet"):
        raise ValueError(f"patch_merging must be 'microsoft' or 'mmdet', got {patch_merging!r}")
    if patch_merging == "microsoft":
        return conversion
    weights = {
        name: _reordered(tensor) if ".downsample." in name else tensor
        for name, tensor in conversion.weights.items()
    }
    return replace(conversion, weights=weights)


def _reordered(tensor: Tensor) -> Tensor:
    """(..., 4C) from mmdetection's order, channel by channel, to Microsoft's, place by place.

    The places of a 2 x 2 patch are (0,0), (0,1), (1,0), (1,1) there and (0,0), (1,0), (0,1), (1,1)
    here, in (row, column).
    """
    if tensor.shape[-1] % 4:
        return tensor
    by_channel = tensor.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]]
    return by_channel.transpose(-1, -2).flatten(-2)

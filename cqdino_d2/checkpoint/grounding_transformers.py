"""From the names of Hugging Face's Grounding DINO to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .released import ReleasedConversion

_LEFT_OUT = re.compile(
    r"bbox_embed\..*"  # the decoder's again
    r"|model\.decoder\.bbox_embed\.[1-9]\d*\..*"  # all layers have one
    r"|model\.text_backbone\.(embeddings\.(position_ids|token_type_ids)|pooler\..*)"
    r"|model\.backbone\.conv_encoder\.model\.(swin\.)?layernorm\..*"  # after the last stage, unused
    r"|.*\.relative_position_index"
)
_SWIN = r"^model\.backbone\.conv_encoder\.model\.(?:swin\.)?"
_BLOCK = r"^(backbone\.body\.layers_\d+\.blocks\.\d+)"
# (pattern of their name, replacement). Each name is rewritten by all that match, in order.
_RULES = [
    (r"^model\.text_backbone\.", "categories.language_model.body."),
    (r"^model\.text_projection\.", "categories.projection."),
    (_SWIN + r"embeddings\.patch_embeddings\.projection\.", "backbone.body.patch_embed.proj."),
    (_SWIN + r"embeddings\.norm\.", "backbone.body.patch_embed.norm."),
    (_SWIN + r"encoder\.layers\.(\d+)\.blocks\.", r"backbone.body.layers_\1.blocks."),
    (_BLOCK + r"\.attention\.(?:self\.)?(?:query|q_proj)\.", r"\1.attn.qkv.q."),
    (_BLOCK + r"\.attention\.(?:self\.)?(?:key|k_proj)\.", r"\1.attn.qkv.k."),
    (_BLOCK + r"\.attention\.(?:self\.)?(?:value|v_proj)\.", r"\1.attn.qkv.v."),
    (_BLOCK + r"\.attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
    (
        _BLOCK + r"\.attention\..*relative_position_bias_table$",
        r"\1.attn.relative_position_bias_table",
    ),
    (_BLOCK + r"\.layernorm_before\.", r"\1.norm1."),
    (_BLOCK + r"\.layernorm_after\.", r"\1.norm2."),
    (_BLOCK + r"\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (_BLOCK + r"\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^model\.level_embed$", "tokenizer.level_embedding"),
    (r"^model\.query_position_embeddings\.", "query_selection.content."),
    (r"^model\.enc_output\.", "query_selection.projection."),
    (r"^model\.enc_output_norm\.", "query_selection.norm."),
    (r"^model\.encoder_output_bbox_embed\.", "query_selection.box_head."),
    (r"^model\.decoder\.bbox_embed\.0\.", "decoder.box_heads.0."),
    (r"^model\.decoder\.reference_points_head\.", "decoder.position_mlp."),
    (r"(box_head|box_heads\.0|position_mlp)\.layers\.0\.", r"\1.0."),
    (r"(box_head|box_heads\.0|position_mlp)\.layers\.1\.", r"\1.2."),
    (r"(box_head|box_heads\.0)\.layers\.2\.", r"\1.4."),
    (r"^model\.decoder\.layer_norm\.", "decoder.norm."),
    (r"^model\.(encoder|decoder)\.", r"\1."),
    (r"^encoder\.layers\.(\d+)\.text_enhancer_layer\.", r"encoder.slot_layers.\1."),
    (r"^encoder\.layers\.(\d+)\.fusion_layer\.", r"encoder.fusion_layers.\1."),
    (r"^encoder\.layers\.(\d+)\.deformable_layer\.", r"encoder.image_layers.\1."),
    (r"^(encoder\.\w+_layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(encoder\.image_layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm."),
    (r"^(encoder\.slot_layers\.\d+)\.layer_norm_before\.", r"\1.norm."),
    (r"^(encoder\.slot_layers\.\d+)\.layer_norm_after\.", r"\1.feed_forward.norm."),
    (r"\.vision_param$", ".image_scale"),
    (r"\.text_param$", ".category_scale"),
    (r"\.layer_norm_vision\.", ".image_norm."),
    (r"\.layer_norm_text\.", ".category_norm."),
    (r"\.attn\.vision_proj\.", ".image_query."),
    (r"\.attn\.text_proj\.", ".category_query."),
    (r"\.attn\.values_vision_proj\.", ".image_value."),
    (r"\.attn\.values_text_proj\.", ".category_value."),
    (r"\.attn\.out_vision_proj\.", ".image_output."),
    (r"\.attn\.out_text_proj\.", ".category_output."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"^(decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.self_norm."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn_text\.", r"\1.category_attention."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn_text_layer_norm\.", r"\1.category_norm."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn\.", r"\1.image_attention."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn_layer_norm\.", r"\1.image_norm."),
    (r"^((?:en|de)coder\.\w+\.\d+)\.final_layer_norm\.", r"\1.feed_forward.norm."),
    (r"^((?:en|de)coder\.\w+\.\d+)\.fc1\.", r"\1.feed_forward.expand."),
    (r"^((?:en|de)coder\.\w+\.\d+)\.fc2\.", r"\1.feed_forward.contract."),
    (r"^((?:en|de)coder\..*attention)\.query\.(weight|bias)$", r"\1.in_proj_\2/q"),
    (r"^((?:en|de)coder\..*attention)\.key\.(weight|bias)$", r"\1.in_proj_\2/k"),
    (r"^((?:en|de)coder\..*attention)\.value\.(weight|bias)$", r"\1.in_proj_\2/v"),
    (r"^(backbone\..*\.attn\.qkv)\.([qkv])\.(weight|bias)$", r"\1.\3/\2"),
]
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _RULES]
_DOWNSAMPLE = re.compile(_SWIN + r"encoder\.layers\.(\d+)\.downsample\.")
_OUTPUT_NORM = re.compile(
    r"^model\.backbone\.conv_encoder\.model\.hidden_states_norms\.stage(\d+)\."
)
_INPUT = re.compile(r"^model\.input_proj_vision\.(\d+)\.")


def convert_transformers_grounding_weights(state: Mapping[str, Tensor]) -> ReleasedConversion:
    """Renames the weights of Hugging Face's ``GroundingDinoForObjectDetection``.

    What they keep as separate projections to queries, keys and values is joined.

    Args:
        state: their name -> tensor.

    Raises:
        ValueError: two names that become one, or a projection without its other two.
    """
    stages = sorted({int(m[1]) for name in state if (m := _OUTPUT_NORM.match(name))})
    found: dict[str, str] = {}
    left_out = []
    for theirs in state:
        if _LEFT_OUT.fullmatch(theirs):
            left_out.append(theirs)
            continue
        ours = _rename(theirs, stages)
        if ours in found:
            raise ValueError(f"{theirs} and {found[ours]} both become {ours}")
        found[ours] = theirs
    weights, origin = {}, {}
    for ours, theirs in found.items():
        whole, _, part = ours.partition("/")
        if not part:
            weights[ours], origin[ours] = state[theirs], theirs
        elif part == "q":
            names = [found.get(f"{whole}/{one}") for one in "qkv"]
            if None in names:
                raise ValueError(f"{theirs} has no projection to keys or values beside it")
            weights[whole] = torch.cat([state[name] for name in names])
            origin[whole] = ", ".join(names)
    return ReleasedConversion(weights, origin, tuple(left_out))


def _rename(name: str, stages: list[int]) -> str:
    """Our name, with "/q", "/k" or "/v" behind what is a part of it."""
    if match := _DOWNSAMPLE.match(name):
        # timm puts the merging in front of the next stage
        return f"backbone.body.layers_{int(match[1]) + 1}.downsample.{name[match.end() :]}"
    if match := _OUTPUT_NORM.match(name):
        return f"backbone.norms.{stages.index(int(match[1]))}.{name[match.end() :]}"
    if match := _INPUT.match(name):
        level, rest = int(match[1]), name[match.end() :]
        extra = level - len(stages)
        return f"neck.lateral.{level}.{rest}" if extra < 0 else f"neck.extra.{extra}.{rest}"
    for pattern, replacement in _COMPILED:
        name = pattern.sub(replacement, name)
    return name

"""From the names of Hugging Face's Grounding DINO to ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .grounding import CONSTANTS, ONE_HEAD, POOLER
from .released_names import INDEX_TABLE, ReleasedConversion, Renaming

_LISTED_TWICE = "a head that the file lists twice"
_DECODER = "model.decoder."
_LEFT_OUT = [
    (r"model\.text_backbone\.embeddings\.(position_ids|token_type_ids)", CONSTANTS),
    (r"model\.text_backbone\.pooler\..*", POOLER),
    (
        r"model\.backbone\.conv_encoder\.model\.(swin\.)?layernorm\..*",
        "a norm after the last stage, which nothing reads",
    ),
    (r".*\.relative_position_index", INDEX_TABLE),
]
_ONE_BOX_HEAD = (r"(model\.decoder\.)?bbox_embed\.[1-9]\d*\..*", ONE_HEAD)
_SWIN = r"^model\.backbone\.conv_encoder\.model\.(?:swin\.)?"
_BLOCK = r"^(backbone\.body\.layers_\d+\.blocks\.\d+)"
# "/q", "/k" and "/v" stand behind what is a part of a weight.
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
    (r"^model\.encoder_output_class_embed\.", "query_selection.class_head."),
    (r"^(?:model\.decoder\.)?class_embed\.", "decoder.class_heads."),
    (r"^(?:model\.decoder\.)?bbox_embed\.", "decoder.box_heads."),
    (r"^model\.decoder\.reference_points_head\.", "decoder.position_mlp."),
    (r"(box_head|box_heads\.\d+|position_mlp)\.layers\.0\.", r"\1.0."),
    (r"(box_head|box_heads\.\d+|position_mlp)\.layers\.1\.", r"\1.2."),
    (r"(box_head|box_heads\.\d+)\.layers\.2\.", r"\1.4."),
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
_MM_NAMES = Renaming(
    left_out=_LEFT_OUT,
    downsample=_SWIN + r"encoder\.layers\.(\d+)\.downsample\.",
    output_norm=r"model\.backbone\.conv_encoder\.model\.hidden_states_norms\.stage(\d+)\.",
    level=r"model\.input_proj_vision\.(\d+)\.",
    rules=_RULES,
)
_OFFICIAL_NAMES = replace(_MM_NAMES, left_out=[*_LEFT_OUT, _ONE_BOX_HEAD])


def convert_transformers_grounding_weights(state: Mapping[str, Tensor]) -> ReleasedConversion:
    """Renames the weights of Hugging Face's ``GroundingDinoForObjectDetection``.

    Likewise those of ``MMGroundingDinoForObjectDetection`` (MM-Grounding-DINO, LLMDet), whose
    decoder layers have their own heads. What they keep as separate projections to queries, keys
    and values is joined.

    Args:
        state: their name -> tensor; heads may be listed as their own, as the decoder's, or twice.

    Raises:
        ValueError: two names that become one, or a projection without its other two.
    """
    twice = {
        name: _LISTED_TWICE
        for name in state
        if name.startswith(_DECODER) and name.removeprefix(_DECODER) in state
    }
    own_heads = any("class_embed." in name for name in state)
    parts = (_MM_NAMES if own_heads else _OFFICIAL_NAMES).convert(
        {name: tensor for name, tensor in state.items() if name not in twice}
    )
    weights, origin = {}, {}
    for name, tensor in parts.weights.items():
        if "class_head" in name:
            tensor = tensor.reshape(1)  # a number there
        whole, _, part = name.partition("/")
        if not part:
            weights[name], origin[name] = tensor, parts.released_name[name]
        elif part == "q":
            own = [f"{whole}/{one}" for one in "qkv"]
            if not parts.weights.keys() >= set(own):
                raise ValueError(
                    f"{parts.released_name[name]} has no projection to keys or values beside it"
                )
            weights[whole] = torch.cat([parts.weights[one] for one in own])
            origin[whole] = ", ".join(parts.released_name[one] for one in own)
    return ReleasedConversion(weights, origin, twice | parts.left_out)

"""From the names of Grounding DINO's official checkpoints to ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .released_names import INDEX_TABLE, ReleasedConversion, Renaming

POOLER = "the language model's pooler, which nothing reads"
CONSTANTS = "numbers that the model makes itself"
ONE_HEAD = "the one box head of all decoder layers, which is kept once"
_LEFT_OUT = [
    (r"bert\.embeddings\.(position_ids|token_type_ids)", CONSTANTS),
    (r"bert\.pooler\..*", POOLER),
    (r"backbone\.0\..*\.attn\.relative_position_index", INDEX_TABLE),
    (r"bbox_embed\..*", ONE_HEAD),
    (r"transformer\.decoder\.bbox_embed\.[1-9]\d*\..*", ONE_HEAD),
]
OFFICIAL_DINO_RULES = [  # of the parts that the official DINO has as well
    (r"^transformer\.level_embed$", "tokenizer.level_embedding"),
    (r"^transformer\.tgt_embed\.", "query_selection.content."),
    (r"^transformer\.enc_output\.", "query_selection.projection."),
    (r"^transformer\.enc_output_norm\.", "query_selection.norm."),
    (r"^transformer\.enc_out_bbox_embed\.", "query_selection.box_head."),
    (r"^transformer\.decoder\.bbox_embed\.0\.", "decoder.box_heads.0."),
    (r"^transformer\.decoder\.ref_point_head\.", "decoder.position_mlp."),
    (r"(box_head|box_heads\.0|position_mlp)\.layers\.0\.", r"\1.0."),
    (r"(box_head|box_heads\.0|position_mlp)\.layers\.1\.", r"\1.2."),
    (r"(box_head|box_heads\.0)\.layers\.2\.", r"\1.4."),
    (r"^transformer\.(encoder|decoder)\.", r"\1."),
    (r"^encoder\.text_layers\.", "encoder.slot_layers."),
    (r"^encoder\.layers\.", "encoder.image_layers."),
    (r"^(encoder\.(?:slot|image)_layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(encoder\.(?:slot|image)_layers\.\d+)\.norm1\.", r"\1.norm."),
    (r"^(encoder\.(?:slot|image)_layers\.\d+)\.norm2\.", r"\1.feed_forward.norm."),
    (r"\.layer_norm_v\.", ".image_norm."),
    (r"\.layer_norm_l\.", ".category_norm."),
    (r"\.gamma_v$", ".image_scale"),
    (r"\.gamma_l$", ".category_scale"),
    (r"\.attn\.values_v_proj\.", ".image_value."),
    (r"\.attn\.values_l_proj\.", ".category_value."),
    (r"\.attn\.out_v_proj\.", ".image_output."),
    (r"\.attn\.out_l_proj\.", ".category_output."),
    (r"\.attn\.v_proj\.", ".image_query."),
    (r"\.attn\.l_proj\.", ".category_query."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"^(decoder\.layers\.\d+)\.norm2\.", r"\1.self_norm."),
    (r"^(decoder\.layers\.\d+)\.ca_text\.", r"\1.category_attention."),
    (r"^(decoder\.layers\.\d+)\.catext_norm\.", r"\1.category_norm."),
    (r"^(decoder\.layers\.\d+)\.cross_attn\.", r"\1.image_attention."),
    (r"^(decoder\.layers\.\d+)\.norm1\.", r"\1.image_norm."),
    (r"^(decoder\.layers\.\d+)\.norm3\.", r"\1.feed_forward.norm."),
    (r"^((?:en|de)coder\..*layers\.\d+)\.linear1\.", r"\1.feed_forward.expand."),
    (r"^((?:en|de)coder\..*layers\.\d+)\.linear2\.", r"\1.feed_forward.contract."),
]
_RULES = [
    (r"^bert\.", "categories.language_model.body."),
    (r"^feat_map\.", "categories.projection."),
    (r"^backbone\.0\.patch_embed\.", "backbone.body.patch_embed."),
    (r"^backbone\.0\.layers\.(\d+)\.blocks\.", r"backbone.body.layers_\1.blocks."),
    *OFFICIAL_DINO_RULES,
]
_RENAMING = Renaming(
    left_out=_LEFT_OUT,
    downsample=r"backbone\.0\.layers\.(\d+)\.downsample\.",
    output_norm=r"backbone\.0\.norm(\d+)\.",
    level=r"input_proj\.(\d+)\.",
    rules=_RULES,
    prefix="module.",
)


def convert_official_grounding_weights(state: Mapping[str, Tensor]) -> ReleasedConversion:
    """Renames the weights of an official Grounding DINO checkpoint of any size.

    All decoder layers have one box head there, which is kept once; the language model's pooler,
    which nothing reads, is left out.

    Args:
        state: official name -> tensor, with or without "module." in front.

    Raises:
        ValueError: two names that become one.
    """
    return _RENAMING.convert(state)

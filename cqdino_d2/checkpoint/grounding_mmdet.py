"""From mmdetection's names of MM-Grounding-DINO and LLMDet to ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .grounding import CONSTANTS, POOLER
from .released import MMDET_LEFT_OUT, MMDET_NAMES, head_rules, with_microsofts_patch_merging
from .released_names import ReleasedConversion

_BERT = r"language_model\.language_backbone\.body\.model\."
_LEFT_OUT = [
    *MMDET_LEFT_OUT,
    (rf"{_BERT}embeddings\.(position_ids|token_type_ids)", CONSTANTS),
    (rf"{_BERT}pooler\..*", POOLER),
    (
        r"(lmm|connector|region_connector|image_seperate|ref_point_head)\..*",
        "LLMDet's captioning language model, needed in its training only",
    ),
]
_TEXT_RULES = [
    (rf"^{_BERT}", "categories.language_model.body."),
    (r"^text_feat_map\.", "categories.projection."),
    (r"^encoder\.text_layers\.", "encoder.slot_layers."),
    (r"^(encoder\.slot_layers\.\d+)\.self_attn\.attn\.", r"\1.attention."),
    (r"^(encoder\.slot_layers\.\d+)\.norms\.0\.", r"\1.norm."),
    (r"^(encoder\.slot_layers\.\d+)\.norms\.1\.", r"\1.feed_forward.norm."),
]
_NAMES = replace(MMDET_NAMES, left_out=_LEFT_OUT)


def convert_mmdet_grounding_weights(
    state: Mapping[str, Tensor], *, patch_merging: str = "mmdet"
) -> ReleasedConversion:
    """Renames the weights of an MM-Grounding-DINO or LLMDet checkpoint of any size.

    Args:
        state: their name -> tensor.
        patch_merging: order of the channels in the backbone's patch merging, see
            `convert_released_weights`; mmdetection's own here.

    Raises:
        ValueError: an unknown order, or two names that become one.
    """
    conversion = _NAMES.convert(state, [*_TEXT_RULES, *head_rules(state)])
    return with_microsofts_patch_merging(conversion, patch_merging)

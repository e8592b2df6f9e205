"""From the names of RichSem's official checkpoints to ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .grounding import OFFICIAL_DINO_RULES, ONE_HEAD
from .released_names import ReleasedConversion, Renaming

CLIP = "a copy of CLIP, which is frozen and serves training alone; the text table is a file of ours"
FILLER = (
    "the filler class 'none' (released id 0) is dropped: released id c is vocab_id c - 1. No "
    "weight has a row per class; the text table comes from --category-embeddings"
)
_KEPT = "dino_visual_proj|clip_visual_proj|label_proj"
_LEFT_OUT = [
    (rf"class_embed\.(?!(?:{_KEPT})\.).*", CLIP),
    (r"transformer\.enc_out_class_embed\.(?!dino_visual_proj\.).*", CLIP),
    (r"bbox_embed\..*", ONE_HEAD),
    (r"transformer\.decoder\.bbox_embed\.[1-9]\d*\..*", ONE_HEAD),
    (r"backbone\.0\.body\.fc\..*", "the backbone's classifier, which nothing reads"),
]
_RULES = [
    (r"^class_embed\.dino_visual_proj\.", "decoder.class_heads.0."),
    (r"^class_embed\.clip_visual_proj\.", "criterion.losses.semantic.projection."),
    (r"^class_embed\.label_proj\.", "denoising.content.projection."),
    (r"^transformer\.enc_out_class_embed\.dino_visual_proj\.", "query_selection.class_head."),
    (r"^backbone\.0\.body\.", "backbone.body."),
    (r"^input_proj\.([0-2])\.", r"neck.lateral.\1."),
    (r"^input_proj\.3\.", "neck.extra.0."),
    *OFFICIAL_DINO_RULES,
]
_RENAMING = Renaming(
    left_out=_LEFT_OUT,
    downsample=r"(?!)",  # a ResNet keeps its names
    output_norm=r"(?!)",
    rules=_RULES,
    prefix="module.",
)


def convert_richsem_weights(state: Mapping[str, Tensor]) -> ReleasedConversion:
    """Renames the weights of an official RichSem checkpoint with four levels of three maps.

    The copies of CLIP are left out. All decoder layers have one box head, which is kept once.

    Args:
        state: official name -> tensor, with or without "module." in front.

    Raises:
        ValueError: two names that become one.
    """
    return _RENAMING.convert(state)

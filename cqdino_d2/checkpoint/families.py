"""Which project a file of weights comes from, by its names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .grounding import convert_official_grounding_weights
from .grounding_mmdet import convert_mmdet_grounding_weights
from .grounding_transformers import convert_transformers_grounding_weights
from .released import convert_released_weights
from .released_names import ReleasedConversion
from .richsem import FILLER, convert_richsem_weights


@dataclass(frozen=True)
class Family:
    """Checkpoints with one kind of names.

    Attributes:
        name: for people.
        mark: pattern of names that no other family has.
        convert: their state dict -> ours; mmdetection's also take ``patch_merging``.
        words: whether they are asked in words.
        patch_merging: the order of the backbone's channels that they have unless given otherwise;
            None where there is but one.
        note: what else becomes of the weights, for the report.
    """

    name: str
    mark: str
    convert: Callable[..., ReleasedConversion]
    words: bool = True
    patch_merging: str | None = None
    note: str = ""


_FAMILIES = (
    Family(
        name="CQ-DINO, released",
        mark=r"language_model\.(label_embed|wordvec_proj\..*)",
        convert=convert_released_weights,
        words=False,
        patch_merging="microsoft",
    ),
    Family(
        name="RichSem, official",
        mark=r"(module\.)?class_embed\.dino_visual_proj\.weight",
        convert=convert_richsem_weights,
        words=False,
        note=FILLER,
    ),
    Family(
        name="MM-Grounding-DINO or LLMDet of mmdetection",
        mark=r"language_model\.language_backbone\..*",
        convert=convert_mmdet_grounding_weights,
        patch_merging="mmdet",
    ),
    Family(
        name="Grounding DINO, official",
        mark=r"(module\.)?(bert\..*|feat_map\..*)",
        convert=convert_official_grounding_weights,
    ),
    Family(
        name="Grounding DINO, MM-Grounding-DINO or LLMDet of Hugging Face",
        mark=r"model\.(text_backbone|text_projection)\..*",
        convert=convert_transformers_grounding_weights,
    ),
)
_NAMED = 4
_OURS = r"(categories|query_selection|tokenizer)\..*"


def family_of(names: Iterable[str], source: object) -> Family:
    """The family that these names belong to.

    Args:
        names: of a state dict.
        source: the file, for errors.

    Raises:
        ValueError: none, or weights of this project.
    """
    names = list(names)
    for family in _FAMILIES:
        if any(re.fullmatch(family.mark, name) for name in names):
            return family
    if any(re.fullmatch(_OURS, name) for name in names):
        raise ValueError(f"{source} has this project's names: there is nothing to convert")
    known = "; ".join(family.name for family in _FAMILIES)
    raise ValueError(
        f"{source} is of no known family: found {len(names)} names like "
        f"{', '.join(names[:_NAMED])}; expected one of: {known}"
    )

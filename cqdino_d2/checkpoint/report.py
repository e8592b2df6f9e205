"""What became of every name of a converted checkpoint, and why."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from .released_names import ReleasedConversion

Shapes = Mapping[str, tuple[int, ...]]

# (released name, why it may stay unused)
EXPLAINED_UNUSED = (
    (
        r"dn_query_generator\.label_embedding\.weight",
        "labels of the denoising group, needed in training only; this config's denoising takes "
        "category queries instead (model.denoising.content of ReleasedLabelContent would take it)",
    ),
)
# (our name, why it may be missing)
EXPLAINED_MISSING = (
    (
        r"denoising\.content\.not_selected",
        "content of denoising queries whose category was not selected, needed in training only; "
        "the released model has none",
    ),
)
_BOX_HEAD = re.compile(r"decoder\.box_heads\.\d+\.4\.weight")
_STAGE_BLOCK = re.compile(r"backbone\.body\.layers_(\d+)\.blocks\.(\d+)\.norm1\.weight")
_NAMED_ALIKE = 20  # names of one part and one reason that are listed one by one
_TABLE = "backbone.body.layers_0.blocks.0.attn.relative_position_bias_table"


@dataclass(frozen=True)
class ConversionReport:
    """How a converted checkpoint fits a model, by name.

    Attributes:
        converted: released name -> our name of what fits.
        num_parameters: how many numbers these hold.
        unused: released name -> why it is not needed; empty if unexplained.
        missing: our name -> why it may be missing; empty if unexplained.
        mismatched: our name -> (shape in the checkpoint, shape in the model).
        differences: property -> (found in the checkpoint, expected by the model), for instance
            the relation or the number of categories.
    """

    converted: dict[str, str]
    num_parameters: int
    unused: dict[str, str]
    missing: dict[str, str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    differences: dict[str, tuple[str, str]]

    @classmethod
    def compare(cls, conversion: ReleasedConversion, expected: Shapes) -> ConversionReport:
        """Compares names and shapes with those of a model's state dict."""
        found = {name: tuple(tensor.shape) for name, tensor in conversion.weights.items()}
        released = conversion.released_name
        unused = [released[n] for n in found if n not in expected]
        fitting = [n for n in found if expected.get(n) == found[n]]
        missing = [name for name in expected if name not in found]
        theirs, ours = describe_shapes(found), describe_shapes(expected)
        return cls(
            converted={released[n]: n for n in fitting},
            num_parameters=sum(math.prod(found[n]) for n in fitting),
            unused=conversion.left_out
            | {name: _explanation(name, EXPLAINED_UNUSED) for name in unused},
            missing={name: _explanation(name, EXPLAINED_MISSING) for name in missing},
            mismatched={
                n: (found[n], expected[n]) for n in found if expected.get(n, found[n]) != found[n]
            },
            differences={
                name: (theirs.get(name, "none"), ours.get(name, "none"))
                for name in theirs | ours
                if theirs.get(name) != ours.get(name)
            },
        )

    @property
    def complete(self) -> bool:
        """Whether the checkpoint fits and everything left over is explained."""
        left_over = [*self.unused.values(), *self.missing.values()]
        return all(left_over) and not self.mismatched

    def lines(self) -> Iterator[str]:
        """The report for people: every name, or how many where many go for one reason."""
        yield f"converted: {len(self.converted)}, parameters: {self.num_parameters:,}"
        for theirs, ours in self.converted.items():
            yield f"  {theirs} -> {ours}"
        for kind, names in (("unused", self.unused), ("missing", self.missing)):
            yield f"{kind}: {len(names)}, unexplained: {sum(not why for why in names.values())}"
            yield from _grouped(names)
        yield f"of another shape: {len(self.mismatched)}"
        for name, (theirs, ours) in self.mismatched.items():
            yield f"  {name}: {theirs} found, {ours} expected"
        for name, (theirs, ours) in self.differences.items():
            yield f"{name}: the checkpoint has {theirs}, the config expects {ours}"


def _grouped(names: Mapping[str, str]) -> Iterator[str]:
    for (_, why), group in groupby(
        names.items(), lambda item: (item[0].partition(".")[0], item[1])
    ):
        alike = [name for name, _ in group]
        if why and len(alike) > _NAMED_ALIKE:
            part = os.path.commonprefix(alike).rpartition(".")[0]
            yield f"  {part}.*: {len(alike)} names  ({why})"
        else:
            yield from (f"  {name}  ({why or 'UNEXPLAINED'})" for name in alike)


def describe_shapes(shapes: Shapes) -> dict[str, str]:
    """What the names and shapes of a detector's state dict (our names) tell about the model."""
    depths: dict[int, int] = {}
    for name in shapes:
        if match := _STAGE_BLOCK.fullmatch(name):
            depths[int(match[1])] = depths.get(int(match[1]), 0) + 1
    rows, width = _size(shapes, _TABLE), _size(shapes, "backbone.body.patch_embed.proj.weight")
    swin = f"Swin of width {width}, depths {'-'.join(str(depths[i]) for i in sorted(depths))}, "
    swin += f"windows of {(round((rows or 1) ** 0.5) + 1) // 2}"
    return _describe_classes(shapes) | {
        "backbone": swin if depths else "no Swin",
        "feature levels": str(_size(shapes, "tokenizer.level_embedding")),
        "object queries": str(_size(shapes, "query_selection.content.weight")),
    }


def _describe_classes(shapes: Shapes) -> dict[str, str]:
    words = _size(shapes, "categories.language_model.body.embeddings.word_embeddings.weight")
    if words is not None:
        heads = sum(bool(_BOX_HEAD.fullmatch(name)) for name in shapes)
        return {
            "words of the language model": str(words),
            "box heads": "one for all decoder layers" if heads == 1 else f"{heads}, one per layer",
            "bias of the class heads": "yes" if "decoder.class_heads.0.bias" in shapes else "no",
        }
    attention = "categories.relation.attention.in_proj_weight" in shapes
    return {
        "relation": "self-attention" if attention else "no self-attention (the tree variant)",
        "categories": str(_size(shapes, "categories.embeddings")),
    }


def _size(shapes: Shapes, name: str) -> int | None:
    return shapes[name][0] if name in shapes else None


def _explanation(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    return next((why for pattern, why in rules if re.fullmatch(pattern, name)), "")

"""From a released state dict to a file with the weights of a config's model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ..checkpoint import ConversionReport, Family, ReleasedConversion
from ..engine.config import with_vocabulary, without_pretrained
from ..files import write_atomically
from ..structures import Vocabulary
from .request import ConversionOutcome, ConversionRequest


def build_on_meta(cfg: DictConfig, vocabulary: Vocabulary) -> nn.Module:
    """The config's model without memory for its weights."""
    cfg = without_pretrained(with_vocabulary(cfg, vocabulary))
    with torch.device("meta"):
        return instantiate(cfg.model)


def convert_by_family(
    family: Family, weights: Mapping[str, Tensor], request: ConversionRequest
) -> tuple[ReleasedConversion, str]:
    """The weights under our names, and a line about their family and how it was read.

    Raises:
        ValueError: an order for a family that has but one, or weights that cannot be renamed.
    """
    if family.patch_merging is None:
        if request.patch_merging is not None:
            raise ValueError(
                f"--patch-merging is for files of mmdetection; {request.input} is of: {family.name}"
            )
        note = f"; {family.note}" if family.note else ""
        return family.convert(weights), f"family: {family.name}{note}"
    order = request.patch_merging or family.patch_merging
    line = f"family: {family.name}; order of the patch merging's channels: {order}"
    return family.convert(weights, patch_merging=order), line


def write_model(
    request: ConversionRequest,
    cfg: DictConfig,
    model: nn.Module,
    conversion: ReleasedConversion,
    *,
    problems: Sequence[str] = (),
    write_beside: Callable[[Path], None] | None = None,
) -> ConversionOutcome:
    """Writes the checkpoint if the weights fit the model and nothing else is wrong.

    Weights that only a training needs and no release has get initial values.

    Args:
        request: names input and output.
        cfg: the whole config.
        model: the config's, as `build_on_meta` makes it.
        conversion: the weights under our names.
        problems: why the config would compute something else.
        write_beside: writes what belongs next to the output, before it.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    report = ConversionReport.compare(conversion, expected)
    lines = tuple(report.lines())
    if not report.complete:
        misfit = f"{request.input} does not fit {request.config_file} (see above)"
        problems = [*problems, misfit]
    if problems:
        return ConversionOutcome(lines, tuple(problems))
    kept = {name: conversion.weights[name] for name in report.converted.values()}
    if write_beside is not None:
        write_beside(request.output)
    save({"model": kept | fresh_denoising(cfg, report.missing)}, request.output)
    return ConversionOutcome((*lines, f"wrote {request.output}"))


def fresh_denoising(cfg: DictConfig, names: Iterable[str]) -> dict[str, Tensor]:
    """Initial values for the weights of the denoising group that no released file has."""
    names = list(names)
    if not names:
        return {}
    torch.manual_seed(0)
    denoising = instantiate(cfg.model.denoising).state_dict(prefix="denoising.")
    return {name: denoising[name] for name in names}


def save(content: dict[str, Any], path: Path) -> None:
    """Writes a file of tensors, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: torch.save(content, file))

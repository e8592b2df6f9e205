"""Weights as programs of this field save them: at the top of a file or under some name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .tensor_file import read_safetensors_file, read_tensor_file

_WEIGHTS = ("model", "state_dict", "model_state_dict", "model_state", "weights")
_AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model")
_INSIDE = ("weights", "state_dict", "module", "model")  # below one of the names above
_COUNTERS = ("n_averaged", "updates")  # of moving averages, no weights
# of DistributedDataParallel and moving averages, of torch.compile, of Lightning
_PREFIXES = ("module.", "_orig_mod.", "model.")
_NAMED_KEYS = 8


def read_weights(
    path: str | Path, *, prefer_average: bool = False, mapped: bool = False
) -> dict[str, Tensor]:
    """Name -> tensor from a file that `torch.save` wrote, or from one of safetensors.

    Args:
        path: weights at the top of the file or under ``model``, ``state_dict``,
            ``model_state_dict``, ``model_state`` or ``weights``; averaged ones under ``ema``,
            ``ema_state_dict``, ``state_dict_ema``, ``model_ema`` or ``ema_model``.
        prefer_average: take the averaged ones where there are both.
        mapped: see `read_tensor_file`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read, or holds no weights (its keys are named).
    """
    is_safe = Path(path).suffix == ".safetensors"
    content = read_safetensors_file(path) if is_safe else read_tensor_file(path, mapped=mapped)
    return weights_in(content, path, prefer_average=prefer_average)


def weights_in(
    content: Mapping[str, Any], path: str | Path, *, prefer_average: bool = False
) -> dict[str, Tensor]:
    """As `read_weights`, from what was read.

    Raises:
        ValueError: no weights in it.
    """
    names = [*_AVERAGES, *_WEIGHTS] if prefer_average else [*_WEIGHTS, *_AVERAGES]
    groups = [found for name in names if isinstance(found := content.get(name), Mapping)]
    steps = [(group, *(group[name] for name in _INSIDE if name in group)) for group in groups]
    for found in (content, *itertools.chain(*steps)):
        if (weights := _tensors(found)) is not None:
            return weights
    keys = ", ".join(map(repr, list(content)[:_NAMED_KEYS])) or "nothing"
    raise ValueError(
        f"{path} holds {keys}; expected named tensors at the top or under one of {names}"
    )


def _tensors(found: Any) -> dict[str, Tensor] | None:
    """The named tensors, without counters of averages; None if there is anything else."""
    if not isinstance(found, Mapping):
        return None
    weights = {name: value for name, value in found.items() if name not in _COUNTERS}
    whole = bool(weights) and all(isinstance(value, Tensor) for value in weights.values())
    return weights if whole else None


def without_prefixes(weights: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Takes what wrappers put before every name off, unless the model's names have it too.

    Args:
        weights: name -> tensor.
        wanted: the names of the model.
    """
    names, result = list(wanted), dict(weights)
    while result:
        found = [p for p in _PREFIXES if all(name.startswith(p) for name in result)]
        found = [p for p in found if not any(name.startswith(p) for name in names)]
        if not found:
            break
        result = {name.removeprefix(found[0]): value for name, value in result.items()}
    return result


def non_finite_names(weights: Mapping[str, Tensor]) -> list[str]:
    """The weights that hold a NaN or an infinite number."""
    floating = {name: value for name, value in weights.items() if value.is_floating_point()}
    return [name for name, value in floating.items() if not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    """By the extremes, which a NaN becomes itself: many times as fast as a look at each number."""
    return value.numel() == 0 or all(bool(end.isfinite()) for end in value.aminmax())

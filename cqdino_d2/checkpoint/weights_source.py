"""Where released weights come from: a file of one of three kinds, or a folder of Hugging Face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import inside, read_safetensors_file
from .mmengine_file import read_mmengine_file, weights_of

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_released(path: str | Path) -> dict[str, Any]:
    """What a released file or folder holds.

    Args:
        path: .safetensors, or anything that `torch.save` wrote (.pth, .pt, .bin), or a folder
            with model.safetensors or pytorch_model.bin, whole or in parts with their index.

    Returns:
        The tensors by name, or a dict in which `weights_of` finds them.

    Raises:
        FileNotFoundError: no such file, or a folder without weights or with a part missing.
        ValueError: a file that is cut short, of another kind, or with foreign objects.
    """
    path = Path(path)
    if not path.is_dir():
        return _read_file(path)
    for name in _WHOLE:
        if (path / name).is_file():
            return _read_file(path / name)
    for name in _INDICES:
        if (path / name).is_file():
            return _read_parts(path, path / name)
    raise FileNotFoundError(f"{path} holds no weights: expected {' or '.join(_WHOLE)}")


def _read_file(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return read_safetensors_file(path)
    return read_mmengine_file(path)


def _read_parts(folder: Path, index: Path) -> dict[str, Tensor]:
    try:
        file_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        parts = sorted(set(file_of.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of weights: expected a 'weight_map'") from error
    weights: dict[str, Tensor] = {}
    for part in parts:
        path = inside(folder, part)
        weights |= weights_of(_read_file(path), path)
    if missing := sorted(file_of.keys() - weights.keys()):
        raise ValueError(
            f"{len(missing)} of the weights that {index} names are in none of its parts, "
            f"{missing[0]} first"
        )
    return weights

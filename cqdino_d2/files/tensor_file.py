"""Reads files of tensors without running anything that they name."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+) (?:was|whose)")
# what torch.load raises for files that are cut short or something else altogether
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    OSError,
)


class Discarded:
    """Stands for an object that is not wanted: takes any arguments and state and keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        del state


def _stand_in(name: str) -> type[Discarded]:
    module, _, attribute = name.rpartition(".")
    return type(attribute, (Discarded,), {"__module__": module, "__qualname__": attribute})


def read_tensor_file(
    path: str | Path, discard: Sequence[str] = (), *, mapped: bool = False
) -> dict[str, Any]:
    """Reads a dict that was written by `torch.save`: tensors and plain Python values.

    Args:
        path: the file.
        discard: full names of classes and functions whose objects come back as `Discarded`; any
            other that the file names is refused.
        mapped: tensors are the file's own pages where it is one of zip's, as it is since
            torch 1.6. Only for what is looked at or copied at once: who writes into the file
            while tensors are alive changes them, and who cuts it ends the process.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, is no such file, holds an object that is not on the
            list (it is named; nothing of it is run), or is no dict.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {path}")
    stand_ins = [_stand_in(name) for name in discard]
    try:
        with torch.serialization.safe_globals(stand_ins):
            mapped = mapped and zipfile.is_zipfile(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _UNREADABLE as error:
        if refused := _REFUSED_GLOBAL.search(str(error)):
            raise ValueError(
                f"{path} holds an object of type {refused[1]}, which is not read because that "
                "could run code; expected tensors and plain values"
            ) from error
        raise ValueError(
            f"{path} cannot be read: it is cut short or was not written by torch.save"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict")
    return content


def read_safetensors_file(path: str | Path) -> dict[str, torch.Tensor]:
    """Reads a .safetensors file, which holds named tensors and nothing else.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, or is none of that kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read: it is cut short or is no .safetensors file"
        ) from error

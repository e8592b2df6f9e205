"""Reads checkpoints that mmengine wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import read_tensor_file

# What mmengine writes besides the weights: its message hub with NumPy arrays, its configuration,
# paths and times. Neither mmengine nor NumPy is asked to build any of it.
_DISCARDED = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.logging.message_hub.MessageHub",
    "mmengine.config.config.Config",
    "mmengine.config.config.ConfigDict",
    "mmengine.config.lazy.LazyObject",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.float64",
    "numpy.float32",
    "numpy.int64",
    "numpy.int32",
    "numpy.bool_",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Int64DType",
    "numpy.dtypes.Int32DType",
    "numpy.dtypes.BoolDType",
    "_codecs.encode",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "datetime.datetime",
    "argparse.Namespace",  # the arguments of a training with the official code's descendants
)
_WEIGHTS_KEYS = ("state_dict", "model")


def read_mmengine_file(path: str | Path) -> dict[str, Any]:
    """Reads a file of tensors and plain values; mmengine's own objects in it are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, is something else, or holds objects of other kinds.
    """
    return read_tensor_file(path, _DISCARDED)


def weights_of(content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, which stand at the top or under ``state_dict``.

    Raises:
        ValueError: there are none, or something among them is no tensor.
    """
    for key in _WEIGHTS_KEYS:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise ValueError(
            f"{path} is no checkpoint: expected named tensors at the top or under 'state_dict', "
            f"found {sorted(map(str, others))[:8] or 'nothing'}"
        )
    return dict(content)

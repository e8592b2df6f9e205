"""The recorded numbers in `tests/golden/` (see `make_golden.py` there)."""

from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).resolve().parent / "golden"


def golden_tensors(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """Arrays of an npz by name, without the prefix."""
    arrays = np.load(GOLDEN / f"{name}.npz")
    return {
        key[len(prefix) :]: torch.from_numpy(arrays[key])
        for key in arrays.files
        if key.startswith(prefix)
    }

"""Where a model lives: its device and its wrapper for several processes."""

from __future__ import annotations

import inspect

import torch
from detectron2.utils import comm
from torch import nn


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is a GPU.

    Raises:
        ValueError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise ValueError(f"train.device is {name!r}, but no GPU can be used here")
    return torch.device(name)


def wrap_for_processes(
    model: nn.Module,
    device: torch.device,
    *,
    sync_buffers: bool = False,
    find_unused_parameters: bool = False,
) -> nn.Module:
    """Wraps the model in DistributedDataParallel if several processes train.

    Args:
        model: the model on its device.
        device: of this process.
        sync_buffers: copy the first process's buffers to the others in every forward pass.
        find_unused_parameters: for models that leave parameters out of some passes.
    """
    if comm.get_world_size() == 1:
        return model
    parallel = nn.parallel.DistributedDataParallel
    renamed = "forward_sync_buffers" in inspect.signature(parallel.__init__).parameters
    return parallel(
        model,
        device_ids=[comm.get_local_rank()] if device.type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
        **{"forward_sync_buffers" if renamed else "broadcast_buffers": sync_buffers},
    )

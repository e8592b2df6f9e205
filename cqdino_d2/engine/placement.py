"""Where a model lives: its device, the types it computes in, its wrapper for several processes."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from ..layers import check_precision, chosen_dtype, instruction_set


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is a GPU.

    Raises:
        ValueError: no device's name, or CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise ValueError(f"the device {name!r} was asked for, but no GPU can be used here")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"expected a device such as cpu, cuda or cuda:1, got {name!r}") from error


def describe_machine(
    device: torch.device, model: DictConfig, amp_dtype: torch.dtype | None
) -> dict[str, Any]:
    """What a run computes on and in which floating-point types.

    Args:
        device: of this process.
        model: the config's ``model``.
        amp_dtype: of autocast around the training step, None for none.

    Returns:
        Plain values; a type is "float32" where a switch changes nothing.
    """
    chosen = {"amp": amp_dtype}
    for switch in ("autocast_dtype", "inference_dtype"):
        name = model.get(switch)
        check_precision(f"model.{switch}", name)
        chosen[switch] = chosen_dtype(name, device.type)
    return {
        "device": device.type,
        "instruction_set": instruction_set(),
        "threads": torch.get_num_threads(),
        **{
            switch: str(dtype or torch.float32).removeprefix("torch.")
            for switch, dtype in chosen.items()
        },
    }


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

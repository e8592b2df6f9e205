"""The compiled operators, as torch.library knows them: shapes, derivatives.

Schemas, kernels and the autocast policy are in ``csrc/``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..extension import OPERATORS

_FORWARD = "cqdino_d2::deformable_attention"
_BACKWARD = "cqdino_d2::deformable_attention_backward"


def _output_like(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    places: Tensor,
    weights: Tensor,
    references: Tensor | None = None,
) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, places.shape[1], heads * channels)


def _gradients_like(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    places: Tensor,
    weights: Tensor,
    references: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (value, places, weights)
    )


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    if inputs[5] is not None and inputs[5].requires_grad:
        raise NotImplementedError("there is no gradient for references: detach them")
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    value, shapes, starts, places, weights, references = ctx.saved_tensors
    grad_value, grad_places, grad_weights = torch.ops.cqdino_d2.deformable_attention_backward(
        grad_output, value, shapes, starts, places, weights, references
    )
    return grad_value, None, None, grad_places, grad_weights, None


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError(
        "multi-scale deformable attention can be differentiated only once; "
        "CQDINO_DISABLE_EXTENSION=1 uses a reference that has all derivatives"
    )


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _register() -> frozenset[str]:
    """Registers what is not in C++; returns the types of devices that there are kernels for."""
    if not OPERATORS.is_available():
        return frozenset()
    torch.library.register_fake(_FORWARD, _output_like)
    torch.library.register_fake(_BACKWARD, _gradients_like)
    torch.library.register_autograd(_FORWARD, _gradients, setup_context=_save_inputs)
    torch.library.register_autograd(_BACKWARD, _refuse, setup_context=_keep_nothing)
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset(key.lower() for key in ("CPU", "CUDA") if has_kernel(_FORWARD, key))


DEVICES = _register()

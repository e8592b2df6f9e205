"""Linear layers through oneDNN on CPUs.

For float32 on a CPU torch calls MKL, which uses only part of what processors other than Intel's
can do: on an AMD EPYC with AVX-512 oneDNN, which torch ships too, is 1.5 to 2.3 times as fast at
the sizes of a detector (docs/benchmarks/cpu.md). Results differ by rounding alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from .forms import form_of

LEAST_WORK = 1 << 21  # multiplications; below it MKL's smaller overhead wins
_LEAST_WIDTH = 16


@form_of(nn.Linear)
class Linear(nn.Linear):
    """`torch.nn.Linear`, faster where oneDNN is; not differentiable twice there."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, as `Linear` does it."""
    if not is_for_onednn(x, weight):
        return F.linear(x, weight, bias)
    product = _Product.apply if torch.is_grad_enabled() else _product
    return product(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])


def batched_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer per image: (B, N, in), (B, out, in), (B, out) -> (B, N, out)."""
    if len(x) and is_for_onednn(x[0], weight[0]):
        biases = [None] * len(x) if bias is None else bias
        products = [linear(*image) for image in zip(x, weight, biases, strict=True)]
        return products[0][None] if len(x) == 1 else torch.stack(products)
    product = x @ weight.transpose(1, 2)
    return product if bias is None else product + bias[:, None]


def is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN does the product (..., in), (out, in) faster."""
    return (
        takes_onednn(x, weight)  # first: sizes may be symbols in a compiler
        and x.dim() > 1
        and x.numel() * weight.shape[0] >= LEAST_WORK
        and min(weight.shape) >= _LEAST_WIDTH
    )


def takes_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can be called directly: float32 on a CPU, neither compiled nor autocast."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product that torch.compile uses for frozen models; (N, in), (out, in), (out,)."""
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()  # for other strides oneDNN has nothing but a slow loop
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """The product and its gradients, which are products of the same kind."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.t()) if for_x else None,
            _product(grad.t(), x.t()) if for_weight else None,
            grad.sum(0) if for_bias else None,
        )

"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .cpu.chunks import in_chunks
from .cpu.dropout import Dropout
from .cpu.linear import Linear


class MLP(nn.Sequential):
    """Linear layers with ReLU between them: (..., sizes[0]) -> (..., sizes[-1])."""

    def __init__(self, *sizes: int) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


class FeedForward(nn.Module):
    """Position-wise feed-forward block with residual and post-normalisation."""

    def __init__(
        self,
        *,
        dim: int,
        hidden_dim: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.expand = Linear(dim, hidden_dim)
        self.activation = activation()
        self.contract = Linear(hidden_dim, dim)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return in_chunks(self._apply_to_rows, x, self.expand.out_features)

    def _apply_to_rows(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.contract(self.activation(self.expand(x)))))

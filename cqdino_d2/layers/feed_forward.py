"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear layers with ReLU between them: (..., sizes[0]) -> (..., sizes[-1])."""

    def __init__(self, *sizes: int) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
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
        self.expand = nn.Linear(dim, hidden_dim)
        self.activation = activation()
        self.contract = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.norm(x + self.dropout(self.contract(self.activation(self.expand(x)))))

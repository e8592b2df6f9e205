"""A Swin block for maps of any size whose projections are spared the padding."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import Tensor

from ..layers import form_of, in_chunks
from .padding import missing, quotient_up

_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class WindowedBlock(SwinTransformerBlock):
    """A Swin block that pads to whole windows before the cyclic shift, not after it.

    The detectors this project follows pad first, and weights trained that way expect it; timm pads
    last. Padding takes part in the attention as zeros before the projection to queries, keys and
    values: with nothing but the bias after it. So the projections run over the map itself, and a
    gather puts the results into shifted windows in place of padding, rolling and partitioning.
    Only windows that hold both ends of the map have a mask.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self.drop_path1(self._attn(self.norm1(x)))
        return x + self.drop_path2(self._update(x))

    def _update(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), every token for itself."""
        return self.mlp(self.norm2(x))

    def _attn(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, _ = x.shape
        exporting = _is_exporting()
        if torch.compiler.is_compiling() and not exporting:  # a compiler fuses timm's steps itself
            pad_h, pad_w = missing((height, width), self.window_size)
            padded = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
            return super()._attn(padded)[:, :height, :width]
        attention = self.attn
        windows = _traced_windows if exporting else _windows
        groups, places = windows((height, width), self.window_size, self.shift_size, x.device)
        qkv = attention.qkv(torch.cat([x.flatten(1, 2), x.new_zeros(batch, 1, x.shape[-1])], dim=1))
        bias = attention._get_rel_pos_bias().to(qkv.dtype)
        attended = [_attend(attention, _take(qkv, tokens), bias, mask) for tokens, mask in groups]
        attended = _take(torch.cat(attended, dim=1), places)
        return attention.proj_drop(attention.proj(attended)).unflatten(1, (height, width))


@form_of(WindowedBlock)
class ChunkedWindowedBlock(WindowedBlock):
    """`WindowedBlock` whose perceptron takes some tokens at a time."""

    def _update(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return in_chunks(super()._update, x, self.mlp.fc1.out_features)


def _attend(attention: WindowAttention, qkv: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attention within the windows of one group.

    Args:
        attention: gives the number of heads and the dropout.
        qkv: (B, n * S, 3 C), n windows of S tokens each.
        bias: (1, heads, S, S).
        mask: (n, 1, S, S) bool, False between tokens that are no neighbours; None: all are.

    Returns:
        (B, n * S, C).
    """
    batch, area = len(qkv), attention.window_area
    query, key, value = (
        qkv.reshape(-1, area, 3, attention.num_heads, qkv.shape[-1] // 3 // attention.num_heads)
        .permute(2, 0, 3, 1, 4)
        .unbind()
    )
    if mask is not None:  # -100 as in Swin, not minus infinity
        bias = (bias + torch.where(mask, 0.0, -100.0).to(bias.dtype)).repeat(batch, 1, 1, 1)
    attended = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=bias,
        dropout_p=attention.attn_drop.p if attention.training else 0.0,
    )
    return attended.transpose(1, 2).reshape(batch, -1, qkv.shape[-1] // 3)


@functools.lru_cache(maxsize=64)
def _windows(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> tuple[list[tuple[Tensor, Tensor | None]], Tensor]:
    """Which token sits where in the shifted windows of a map.

    Returns:
        Per group of windows (n * S,) the tokens of its windows, H * W standing for padding, and the
        mask as `_attend` takes it; and (H * W,) where each token of the map has come to.
    """
    height, width = (-(-length // side) * side for length, side in zip(size, window, strict=True))
    tokens = torch.full((height, width), size[0] * size[1])
    tokens[: size[0], : size[1]] = torch.arange(size[0] * size[1]).view(size)
    region = torch.zeros(height, width, dtype=torch.int64)  # of what lies together in the map
    for axis, (side, step) in enumerate(zip(window, shift, strict=True)):
        if step:
            index = torch.arange(tokens.shape[axis])
            last = (index >= len(index) - side).long() + (index >= len(index) - step).long()
            region = 3 * region + (last[:, None] if axis == 0 else last)
    tokens = tokens.roll([-step for step in shift], dims=(0, 1))
    tokens, region = _partition(tokens, window), _partition(region, window)
    mask = region[:, :, None] == region[:, None, :]
    masked = ~mask.flatten(1).all(dim=1)
    groups = [(tokens[~masked].flatten(), None), (tokens[masked].flatten(), mask[masked][:, None])]
    groups = [(ids.to(device), m if m is None else m.to(device)) for ids, m in groups if len(ids)]
    order = torch.cat([ids for ids, _ in groups])
    places = torch.empty(size[0] * size[1] + 1, dtype=torch.int64, device=device)
    places[order] = torch.arange(len(order), device=device)
    return groups, places[:-1]


def _partition(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(H, W) -> (n, S)."""
    rows = x.unflatten(0, (-1, window[0])).unflatten(2, (-1, window[1]))
    return rows.transpose(1, 2).reshape(-1, window[0] * window[1])


def _traced_windows(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> tuple[list[tuple[Tensor, Tensor | None]], Tensor]:
    """`_windows` by arithmetic on flat indices and in one group: sizes may be symbols of a tracer.

    A tracer would bind the graph to whether a map is one window high, wide or both. The first two
    are no shapes here; a further window of nothing but padding makes their number at least two.
    """
    (height, width), (rows, columns) = size, window
    down, across = quotient_up(height, rows), quotient_up(width, columns)
    index = torch.arange((down * across + 1) * rows * columns, device=device)
    number, inner = _divided(index, rows * columns)
    (row, column), (y, x) = _divided(number, across), _divided(inner, columns)
    y, x = row * rows + y, column * columns + x  # in the shifted map
    region = 3 * _part(y, down * rows, rows, shift[0]) + _part(
        x, across * columns, columns, shift[1]
    )
    y, x = _shifted(y, shift[0], down * rows), _shifted(x, shift[1], across * columns)
    inside = ((y < height) & (x < width) & (number < down * across)).long()
    tokens = inside * (y * width + x) + (1 - inside) * height * width
    mask = None
    if any(shift):
        region = region.view(-1, rows * columns)
        mask = (region[:, :, None] == region[:, None, :])[:, None]
    y, x = _divided(torch.arange(height * width, device=device), width)
    (row, y), (column, x) = (
        _divided(_shifted(y, -shift[0], down * rows), rows),
        _divided(_shifted(x, -shift[1], across * columns), columns),
    )
    return [(tokens, mask)], ((row * across + column) * rows + y) * columns + x


def _divided(index: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder; ONNX has none of the latter by a symbol."""
    quotient = index // by
    return quotient, index - quotient * by


def _shifted(index: Tensor, step: int, length: int) -> Tensor:
    """(index + step) modulo length."""
    moved = index + step
    return moved + ((moved < 0).long() - (moved >= length).long()) * length


def _part(index: Tensor, length: int, side: int, step: int) -> Tensor:
    """Which of the three parts that a shift by ``step`` makes of a side of the map; 0 without."""
    if not step:
        return torch.zeros_like(index)
    return (index >= length - side).long() + (index >= length - step).long()


def _take(x: Tensor, places: Tensor) -> Tensor:
    """(B, N, C), (n,) -> (B, n, C); ONNX has one operator for the former alone."""
    return x.index_select(1, places) if _is_exporting() else x[:, places]

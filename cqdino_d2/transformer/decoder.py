"""The decoder: object queries look at each other, at the class slots and at the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..layers import (
    MLP,
    FeedForward,
    MultiScaleDeformableAttention,
    box_sine_encoding,
    inverse_sigmoid,
)
from ..structures import (
    ClassSlots,
    DecoderOutput,
    DenoisingGroup,
    ImageTokens,
    Proposals,
)
from .heads import BoxHead, ContrastiveHead


class DecoderLayer(nn.Module):
    """Self-attention, attention to the categories if asked for, to the image, feed-forward."""

    def __init__(
        self,
        *,
        dim: int,
        num_levels: int,
        num_heads: int,
        num_points: int,
        hidden_dim: int,
        dropout: float,
        category_attention: bool = True,
    ) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.self_norm = nn.LayerNorm(dim)
        self.category_attention = self.category_norm = None
        if category_attention:
            self.category_attention = nn.MultiheadAttention(
                dim, num_heads, dropout, batch_first=True
            )
            self.category_norm = nn.LayerNorm(dim)
        self.image_attention = MultiScaleDeformableAttention(
            dim=dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.image_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim, dropout=dropout)

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        references: Tensor,
        tokens: ImageTokens,
        slots: ClassSlots,
        attention_mask: Tensor | None,
    ) -> Tensor:
        """One round of refinement.

        Args:
            queries: (B, Q, C).
            position: (B, Q, C) encoding of the reference boxes.
            references: (B, Q, L, 4), see `MultiScaleDeformableAttention.forward`.
            tokens: the encoded image.
            slots: the encoded class slots.
            attention_mask: (Q, Q) bool, True where a query must not look.

        Returns:
            (B, Q, C).
        """
        placed = queries + position
        attended, _ = self.self_attention(
            placed, placed, queries, attn_mask=attention_mask, need_weights=False
        )
        queries = self.self_norm(queries + attended)
        if self.category_attention is not None:
            attended, _ = self.category_attention(
                queries + position,
                slots.features,
                slots.features,
                key_padding_mask=~slots.valid,
                need_weights=False,
            )
            queries = self.category_norm(queries + attended)
        attended = self.image_attention(queries + position, references, tokens)
        queries = self.image_norm(queries + self.dropout(attended))
        return self.feed_forward(queries)


class Decoder(nn.Module):
    """Refines the proposals layer by layer and predicts after each (look forward twice).

    Args:
        category_attention: whether queries look at the slots; DINO's do not.
        class_head: makes (queries, slots) -> logits (B, Q, S), called once per layer.
        shared_class_head: whether all layers have one class head, as RichSem.
        shared_box_head: whether all layers have one box head, as Grounding DINO's official form.
        prediction_eps: how near to 0 and 1 the reference boxes of predictions may come.
        extra_heads: makers of further heads by name, queries (B, Q, C) -> (B, Q, ...), called
            once per layer; their outputs are the ``extras`` of the `DecoderOutput`.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        num_levels: int = 4,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        hidden_dim: int = 2048,
        dropout: float = 0.0,
        category_attention: bool = True,
        class_head: Callable[[], nn.Module] = ContrastiveHead,
        shared_class_head: bool = False,
        shared_box_head: bool = False,
        prediction_eps: float = 1e-5,
        extra_heads: Mapping[str, Callable[[], nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(
                dim=dim,
                num_levels=num_levels,
                num_heads=num_heads,
                num_points=num_points,
                hidden_dim=hidden_dim,
                dropout=dropout,
                category_attention=category_attention,
            )
            for _ in range(num_layers)
        )
        self.position_mlp = MLP(2 * dim, dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.class_heads = nn.ModuleList(
            class_head() for _ in range(1 if shared_class_head else num_layers)
        )
        self.box_heads = nn.ModuleList(
            BoxHead(dim=dim) for _ in range(1 if shared_box_head else num_layers)
        )
        self.prediction_eps = prediction_eps
        self.extra_heads = nn.ModuleDict(
            {
                name: nn.ModuleList(make() for _ in range(num_layers))
                for name, make in (extra_heads or {}).items()
            }
        )

    def forward(
        self,
        tokens: ImageTokens,
        slots: ClassSlots,
        proposals: Proposals,
        denoising: DenoisingGroup | None = None,
    ) -> DecoderOutput:
        """Decodes the object queries, with the denoising queries in front in training."""
        queries, references = proposals.content, proposals.boxes_cxcywh_norm.detach()
        mask = None
        if denoising is not None:
            queries = torch.cat([denoising.content, queries], dim=1)
            references = torch.cat([denoising.boxes_cxcywh_norm, references], dim=1)
            total = queries.shape[1]  # less than the mask where an image has few tokens
            mask = denoising.attention_mask[:total, :total]
        ratios = tokens.valid_ratios.repeat(1, 1, 2)[:, None]
        previous = references  # with gradient from the second layer on
        logits, boxes = [], []
        extras: dict[str, list[Tensor]] = {name: [] for name in self.extra_heads}
        for depth, layer in enumerate(self.layers):
            class_head = self.class_heads[min(depth, len(self.class_heads) - 1)]
            box_head = self.box_heads[min(depth, len(self.box_heads) - 1)]
            scaled = references[:, :, None] * ratios
            encoding = box_sine_encoding(scaled[:, :, 0], queries.shape[-1] // 2)
            position = self.position_mlp(encoding)
            queries = layer(queries, position, scaled, tokens, slots, mask)
            predicted = self.norm(queries)
            logits.append(class_head(predicted, slots))
            reference_logit = inverse_sigmoid(previous, self.prediction_eps)
            boxes.append((box_head(predicted) + reference_logit).sigmoid())
            for name, heads in self.extra_heads.items():
                extras[name].append(heads[depth](predicted))
            previous = (box_head(queries) + inverse_sigmoid(references, eps=1e-3)).sigmoid()
            references = previous.detach()
        stacked = {name: torch.stack(outputs) for name, outputs in extras.items()}
        return DecoderOutput(torch.stack(logits), torch.stack(boxes), stacked)

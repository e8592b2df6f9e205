"""Query selection: the image tokens that look most like a class slot become proposals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..structures import ClassSlots, ImageTokens, Proposals
from .heads import BoxHead, ContrastiveHead

_BASE_SIZE = 0.05  # of the image, doubled per level
_MARGIN = 0.01  # proposals must lie in (margin, 1 - margin) in all four numbers


class QuerySelection(nn.Module):
    """Scores a box at every token and takes the Q best (DINO's mixed query selection).

    Positions come from the tokens, contents are learnt.

    Args:
        dim: width C of the tokens.
        num_queries: Q.
        class_head: makes (queries, slots) -> logits (B, T, S).
        skip_padding: takes no token of the padding while there are Q others. CQ-DINO's released
            code may take one, whose box is no proposal; what an image gets then depends on its
            neighbours.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_queries: int,
        class_head: Callable[[], nn.Module] = ContrastiveHead,
        skip_padding: bool = False,
    ) -> None:
        super().__init__()
        self.num_queries, self.skip_padding = num_queries, skip_padding
        self.projection = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.norm = nn.LayerNorm(dim)
        self.class_head = class_head()
        self.box_head = BoxHead(dim=dim)
        self.content = nn.Embedding(num_queries, dim)

    def forward(self, tokens: ImageTokens, slots: ClassSlots) -> Proposals:
        """Selects Q proposals per image, or as many as there are tokens (very thin images)."""
        batch, num_tokens, _ = tokens.features.shape
        # no min(): a traced number of tokens would make the number of queries a symbol
        count = self.num_queries if num_tokens >= self.num_queries else num_tokens
        anchors_logit, usable = token_anchors(tokens)
        memory = tokens.features.masked_fill(~usable[..., None], 0)
        memory = self.norm(self.projection(memory))
        logits = self.class_head(memory, slots)
        best = logits.detach().amax(dim=-1)
        if self.skip_padding:
            best = best.masked_fill(tokens.padding_mask, -torch.inf)
        token_ids = best.topk(count, dim=1).indices
        anchors_logit = _take(anchors_logit, token_ids)
        boxes_logit = self.box_head(_take(memory, token_ids)) + anchors_logit
        return Proposals(
            content=self.content.weight[:count].expand(batch, -1, -1),
            boxes_cxcywh_norm=boxes_logit.sigmoid(),
            logits=_take(logits, token_ids),
            token_ids=token_ids,
        )


def token_anchors(tokens: ImageTokens) -> tuple[Tensor, Tensor]:
    """The box each token proposes before any prediction.

    Returns:
        (B, T, 4) logits of cxcywh relative to the image, infinite where not usable, and
        (B, T) bool: usable, i.e. not padding and away from the border.
    """
    levels = tokens.level_index()
    centres = tokens.grid_centres() / tokens.valid_ratios[:, levels]
    size = _BASE_SIZE * 2.0**levels
    anchors = torch.cat([centres, size[:, None].expand(-1, 2).expand_as(centres)], dim=-1)
    inside = ((anchors > _MARGIN) & (anchors < 1 - _MARGIN)).all(dim=-1)
    usable = inside & ~tokens.padding_mask
    logits = (anchors / (1 - anchors)).log()
    return logits.masked_fill(~usable[..., None], torch.inf), usable


def _take(x: Tensor, token_ids: Tensor) -> Tensor:
    """(B, T, F), (B, Q) -> (B, Q, F)."""
    return x.gather(1, token_ids[..., None].expand(-1, -1, x.shape[-1]))

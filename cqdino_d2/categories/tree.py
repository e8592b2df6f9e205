"""The tree relation: parents take up their children."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..structures import Vocabulary


class TreeAggregation(nn.Module):
    """Mixes the mean of a category's direct children into the category, from the leaves up.

    f <- (1 - w) f + w mean(f of the children), w = m + m log(2 + descendants) / log(2 + V) with the
    mixing weight m, then a LayerNorm. The released code updates only the first image of a batch;
    the relation does not depend on the image, so here it is computed once and holds for all.

    Args:
        vocabulary: gives the hierarchy. Virtual nodes are looked through.
        dim: width H.
        deepest_level: levels below this one are updated together with it (7 in the released code).
        weight_vocabulary: the V of the weight's formula; the released code has 13,204 fixed.
            None takes the vocabulary's own size.
        mixing_weight: m, in 0..0.5; 0.4 in the released code, while the paper names 0.3.

    Raises:
        ValueError: a mixing weight outside of its range.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        dim: int,
        deepest_level: int = 7,
        weight_vocabulary: int | None = None,
        mixing_weight: float = 0.4,
    ) -> None:
        super().__init__()
        if not 0 <= mixing_weight <= 0.5:
            raise ValueError(f"mixing_weight must be in 0..0.5, got {mixing_weight}")
        hierarchy = vocabulary.hierarchy
        size = weight_vocabulary or hierarchy.num_categories
        depth = np.log(2.0 + hierarchy.descendant_counts) / np.log(2.0 + size)
        weights = mixing_weight * (1 + depth)
        levels = np.minimum(hierarchy.levels[: hierarchy.num_categories], deepest_level)
        is_parent = np.diff(hierarchy.category_children.offsets) > 0
        self.num_steps = 0
        for level in sorted(set(levels[is_parent].tolist()), reverse=True):
            parents = np.flatnonzero(is_parent & (levels == level))
            rows = [hierarchy.category_children[parent] for parent in parents]
            counts = np.asarray([len(row) for row in rows])
            self._add_step(
                parents=parents,
                children=np.concatenate(rows),
                segments=np.repeat(np.arange(len(parents)), counts),
                keep=1 - weights[parents],
                take=weights[parents] / counts,
            )
        self.norm = nn.LayerNorm(dim)

    def _add_step(self, **arrays: np.ndarray) -> None:
        """Registers the index and weight tensors of one level."""
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            tensor = tensor.float()[:, None] if tensor.is_floating_point() else tensor
            self.register_buffer(f"{name}_{self.num_steps}", tensor, persistent=False)
        self.num_steps += 1

    def forward(self, queries: Tensor) -> Tensor:
        """(V, H) -> (V, H)."""
        for step in range(self.num_steps):
            parents = self.get_buffer(f"parents_{step}")
            child_sum = queries.new_zeros(len(parents), queries.shape[1]).index_add(
                0,
                self.get_buffer(f"segments_{step}"),
                queries[self.get_buffer(f"children_{step}")],
            )
            mixed = (
                self.get_buffer(f"keep_{step}") * queries[parents]
                + self.get_buffer(f"take_{step}") * child_sum
            )
            queries = queries.index_copy(0, parents, mixed.to(queries.dtype))
        return self.norm(queries)

"""What a query learns from a teacher that has read more than the dataset."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..structures import LayerPredictions, Vocabulary
from .matched_losses import Matched


class SemanticLoss(nn.Module):
    """RichSem's semantic branch (arXiv 2310.12152): queries say what CLIP says about their box.

    A projection of the last decoder layer's hidden state and the teacher's embedding of the box
    are compared with the text table; the loss is KL(teacher || student) over all V categories, for
    matched and for positive denoising queries. The branch is part of the criterion, so that no
    model for inference has it. The decoder has to hand on its hidden states, as the extra head
    `HiddenState` does, and the detector needs a `Teacher`.

    Args:
        dim: width C of the hidden states.
        text_dim: width E of the table and of the teacher's embeddings.
        table: gives the text features (V, E) of the names; called once, in training.
        vocabulary: its size is V.
        weight: factor on the loss.
        scale: of the cosines; CLIP's is 100.
        hidden: the name of the extra head that hands on the hidden states.

    Raises:
        ValueError: on use: hidden states or a teacher are missing, or a table or teacher of
            another size.
    """

    def __init__(
        self,
        *,
        dim: int,
        text_dim: int,
        table: Callable[[], Tensor],
        vocabulary: Vocabulary,
        weight: float = 0.5,
        scale: float = 100.0,
        hidden: str = "hidden",
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, text_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=text_dim**-0.5)
        self.table, self.shape = table, (len(vocabulary), text_dim)
        self.weight, self.scale, self.hidden = weight, scale, hidden
        self._table: Tensor | None = None

    @property
    def needs(self) -> str:
        """What the rest of the model has to have."""
        return (
            "the semantic loss needs a teacher (model.teacher) and the decoder's hidden states "
            f"(model.decoder.extra_heads.{self.hidden})"
        )

    def check_teacher(self, embedding_dim: int | None) -> None:
        """Reads the table.

        Args:
            embedding_dim: E of the teacher; None without one.

        Raises:
            ValueError: there is no teacher, or table or teacher are of another size.
            FileNotFoundError: there is no table.
        """
        if embedding_dim is None:
            raise ValueError(self.needs)
        self.unit_table(self.projection.weight.device)
        self.check_width(embedding_dim)

    def check_width(self, embedding_dim: int) -> None:
        """Refuses a teacher whose embeddings cannot be compared with the table."""
        if embedding_dim != self.shape[1]:
            raise ValueError(
                f"the text table has rows of {self.shape[1]} numbers, the teacher's embeddings "
                f"have {embedding_dim}: the table must come from the teacher's own text encoder"
            )

    def forward(self, predictions: LayerPredictions, matched: Matched) -> dict[str, Tensor]:
        """``semantic`` for the last layer, nothing for the others."""
        if predictions.name not in ("", "_dn"):
            return {}
        seen = matched.region_embeddings
        if seen is None or self.hidden not in predictions.extras:
            raise ValueError(self.needs)
        self.check_width(seen.shape[1])
        hidden = predictions.extras[self.hidden][matched.images, matched.query_ids]
        divergence = self.divergence(hidden, seen).sum()
        return {"semantic": self.weight * divergence / matched.normaliser}

    def divergence(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """(M, C) hidden states and (M, E) embeddings of the teacher -> (M,) KL(teacher || student).

        Computed from logarithms in float32: probabilities may underflow.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            student = self.log_probabilities(self.projection(hidden.float()))
            teacher = self.log_probabilities(seen.float())
            return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)

    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """(M, E) -> (M, V), by their cosines with the table."""
        rows = self.unit_table(embeddings.device)
        return (self.scale * F.normalize(embeddings, dim=-1) @ rows.T).log_softmax(dim=-1)

    def unit_table(self, device: torch.device) -> Tensor:
        """(V, E) rows of length 1.

        Raises:
            ValueError: a table of another shape.
        """
        if self._table is None or self._table.device != device:
            table = self.table()
            if table.shape != self.shape:
                raise ValueError(
                    f"a text table of {self.shape[0]} categories and {self.shape[1]} numbers is "
                    f"expected, got {tuple(table.shape)}"
                )
            self._table = F.normalize(table.detach().float(), dim=-1).to(device)
        return self._table

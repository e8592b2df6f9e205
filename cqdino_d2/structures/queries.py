"""Targets, proposals, the denoising group and the decoder's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class ListedCategories:
    """What LVIS' lists tell of an image besides its boxes.

    Attributes:
        absent: (n,) int64 vocab_ids of categories that were looked for and are not in it.
        unfinished: (m,) int64 vocab_ids of categories of which not every object has its box.
    """

    absent: Tensor
    unfinished: Tensor


@dataclass(frozen=True)
class ImageTargets:
    """Ground truth of one image.

    Attributes:
        boxes_cxcywh_norm: (N, 4), normalised by the unpadded size of the image.
        vocab_ids: (N,) int64.
        image_size: unpadded height and width in pixels.
        region_embeddings: (N, E), what a teacher sees in the boxes; None without a teacher.
        listed: what LVIS' lists tell of it; None where the data does not carry them.
        image_level: whether the image has a label and no box: its box is all of it that is seen.
    """

    boxes_cxcywh_norm: Tensor
    vocab_ids: Tensor
    image_size: tuple[int, int]
    region_embeddings: Tensor | None = None
    listed: ListedCategories | None = None
    image_level: bool = False

    def __len__(self) -> int:
        return len(self.vocab_ids)


@dataclass(frozen=True)
class Proposals:
    """The Q object queries as the query selection starts them.

    Attributes:
        content: (B, Q, C).
        boxes_cxcywh_norm: (B, Q, 4), with gradient; the decoder takes them detached.
        logits: (B, Q, S).
        token_ids: (B, Q) int64, the tokens the boxes came from.
    """

    content: Tensor
    boxes_cxcywh_norm: Tensor
    logits: Tensor
    token_ids: Tensor

    def predictions(self) -> LayerPredictions:
        """The proposals as what a layer predicts."""
        return LayerPredictions("_enc", self.logits, self.boxes_cxcywh_norm)


@dataclass(frozen=True)
class DenoisingGroup:
    """N noised copies of the ground truth that are put in front of the object queries.

    Each of G groups holds P positive queries, then P negative ones (P the most boxes of an image):
    N = 2 G P. Where an image has fewer boxes the rest is padding.

    Attributes:
        content: (B, N, C).
        boxes_cxcywh_norm: (B, N, 4).
        attention_mask: (N + Q, N + Q) bool, True where a query must not look.
        target_ids: (B, N) int64, the box of a positive query; -1 for negatives and padding.
        num_groups: G.
    """

    content: Tensor
    boxes_cxcywh_norm: Tensor
    attention_mask: Tensor
    target_ids: Tensor
    num_groups: int


@dataclass(frozen=True)
class LayerPredictions:
    """What one layer predicts.

    Attributes:
        name: "" for the last decoder layer, "_0" and so on for those before; "_enc" for the
            proposals; "_dn" stands in front for denoising queries.
        logits: (B, Q, S).
        boxes_cxcywh_norm: (B, Q, 4).
        extras: of further heads by name, (B, Q, ...).
    """

    name: str
    logits: Tensor
    boxes_cxcywh_norm: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderOutput:
    """Predictions of every decoder layer, the last layer last.

    Attributes:
        logits: (layers, B, Q, S).
        boxes_cxcywh_norm: (layers, B, Q, 4), normalised by the unpadded size of the image.
        extras: of further heads by name, (layers, B, Q, ...).
    """

    logits: Tensor
    boxes_cxcywh_norm: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def split(self, num_denoising: int) -> tuple[DecoderOutput, DecoderOutput]:
        """The denoising queries (the first ``num_denoising``) and the object queries."""
        return self._queries(slice(num_denoising)), self._queries(slice(num_denoising, None))

    def _queries(self, some: slice) -> DecoderOutput:
        extras = {name: values[:, :, some] for name, values in self.extras.items()}
        return DecoderOutput(self.logits[:, :, some], self.boxes_cxcywh_norm[:, :, some], extras)

    def layers(self, kind: str = "") -> list[LayerPredictions]:
        """Every layer by itself; the last has no number in its name."""
        last = len(self.logits) - 1
        return [
            LayerPredictions(
                name=kind if i == last else f"{kind}_{i}",
                logits=self.logits[i],
                boxes_cxcywh_norm=self.boxes_cxcywh_norm[i],
                extras={name: values[i] for name, values in self.extras.items()},
            )
            for i in range(last + 1)
        ]

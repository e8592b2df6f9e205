"""The contracts of the stages: what each takes and gives.

A detector is put together from parts that keep these contracts; its type hints name them. The
second half are abilities that a part may have besides: ask with ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .class_slots import CategoryScores, ClassQueries, ClassSlots
from .queries import DecoderOutput, DenoisingGroup, ImageTargets, Proposals
from .requests import ClassRequest
from .tokens import ImageTokens


class Backbone(Protocol):
    """Images to feature maps."""

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """(B, 3, H, W) normalised images -> (B, C_l, H_l, W_l) by name, from fine to coarse."""


class Neck(Protocol):
    """Feature maps to L maps of one width."""

    def __call__(self, maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """(B, C_l, H_l, W_l) each -> L maps (B, C, H_l, W_l)."""


class Tokenizer(Protocol):
    """Feature maps to one sequence."""

    def __call__(
        self,
        maps: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> ImageTokens:
        """L maps, unpadded and padded (height, width) in pixels -> tokens."""


class CategorySource(Protocol):
    """Where class queries come from."""

    def __call__(self, request: ClassRequest | None = None) -> ClassQueries:
        """Queries for a request; None stands for the whole vocabulary."""


class CategorySelector(Protocol):
    """Chooses what becomes a slot.

    Attributes:
        num_selected: K, or None where the number of slots follows from the queries.
        is_deterministic: False where the same input may give other slots.
    """

    num_selected: int | None
    is_deterministic: bool

    def __call__(
        self,
        image_map: Tensor,
        queries: ClassQueries,
        targets: Sequence[ImageTargets] | None = None,
        request: ClassRequest | None = None,
    ) -> ClassSlots:
        """Last backbone map (B, C_map, h, w) and class queries -> slots; targets in training."""


class Encoder(Protocol):
    """Lets tokens and slots see themselves and each other."""

    def __call__(self, tokens: ImageTokens, slots: ClassSlots) -> tuple[ImageTokens, ClassSlots]:
        """Both with new features of the same shapes."""


class QuerySelector(Protocol):
    """Chooses the object queries.

    Attributes:
        num_queries: Q.
    """

    num_queries: int

    def __call__(self, tokens: ImageTokens, slots: ClassSlots) -> Proposals:
        """Q proposals per image."""


class Teacher(Protocol):
    """Tells in training what a frozen model sees in the boxes."""

    def __call__(self, images: Tensor, targets: Sequence[ImageTargets]) -> Sequence[ImageTargets]:
        """(B, 3, H, W) normalised, padded images -> the targets with `region_embeddings`."""

    def embedding_dim(self) -> int:
        """E of the embeddings."""


class Denoiser(Protocol):
    """Makes queries from noised ground truth."""

    def __call__(self, targets: Sequence[ImageTargets], slots: ClassSlots) -> DenoisingGroup:
        """N queries per image."""


class BoxDecoder(Protocol):
    """Refines queries into predictions."""

    def __call__(
        self,
        tokens: ImageTokens,
        slots: ClassSlots,
        proposals: Proposals,
        denoising: DenoisingGroup | None = None,
    ) -> DecoderOutput:
        """Predictions of every layer for the denoising queries, if any, and the object queries."""


class Criterion(Protocol):
    """What a training minimises."""

    def __call__(
        self,
        output: DecoderOutput,
        proposals: Proposals,
        slots: ClassSlots,
        targets: Sequence[ImageTargets],
        denoising: DenoisingGroup | None,
    ) -> dict[str, Tensor]:
        """Weighted scalar losses by name; their sum is minimised."""


class CategoryCriterion(Protocol):
    """What a training minimises about the scores of the vocabulary."""

    def __call__(
        self, scores: CategoryScores | None, targets: Sequence[ImageTargets]
    ) -> dict[str, Tensor]:
        """Scores of the vocabulary -> weighted scalar losses by name."""


class PostProcess(Protocol):
    """From predictions to results.

    Attributes:
        num_detections: the most per image.
    """

    num_detections: int

    def __call__(
        self,
        output: DecoderOutput,
        slots: ClassSlots,
        image_sizes: Sequence[tuple[int, int]],
        output_sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Per image "instances" in the wanted (height, width), and what it selected."""

    def best_pairs(self, scores: Tensor, boxes_cxcywh_norm: Tensor) -> tuple[Tensor, ...]:
        """(Q, S) scores and (Q, 4) boxes of one image -> (N,) scores, (N, 4) boxes xyxy, relative
        to the image, and (N,) int64 columns of the scores, best first. Can be traced."""


@runtime_checkable
class ConstantQueries(Protocol):
    """A category source whose queries follow from its weights alone.

    They can be computed once, kept, written into an export as constants, and kept alone.
    """

    def constant_queries(self) -> ClassQueries:
        """(V, H) queries that hold for every image and request."""


@runtime_checkable
class PreparesQueries(Protocol):
    """A selector that can do a part of its work before it sees an image."""

    def prepare(self, queries: ClassQueries) -> ClassQueries:
        """The same queries with what the selector needs of them."""

    def preparing_parameters(self) -> Sequence[Tensor]:
        """The parameters that `prepare` uses."""


@runtime_checkable
class TakesEmbeddings(Protocol):
    """A category source that starts from text features.

    Attributes:
        embeddings: (V, E) parameter.
    """

    embeddings: Tensor

    def load_embeddings(self, embeddings: Tensor) -> None:
        """Starts from given features (V, E)."""


@runtime_checkable
class TrainsScoresAlone(Protocol):
    """A selector that can be trained without a detector behind it."""

    def train_scores_alone(self) -> None:
        """Freezes what makes the features of the slots."""


@runtime_checkable
class HasTrainingWeights(Protocol):
    """A model with weights that no prediction needs: files to predict with do without them."""

    def training_weights(self) -> frozenset[str]:
        """Their names in the state dict."""


@runtime_checkable
class CountsOverParts(Protocol):
    """A criterion that divides by something counted over a batch."""

    def counted_over(
        self, parts: Sequence[Sequence[Mapping[str, Any]]]
    ) -> AbstractContextManager[None]:
        """Inside, it counts over all parts of a step instead of the part at hand."""


@runtime_checkable
class LearnsFromTeacher(Protocol):
    """A criterion or a loss that compares what a teacher sees with a file."""

    def check_teacher(self, embedding_dim: int | None) -> None:
        """Reads the file.

        Args:
            embedding_dim: E of the teacher; None without one.

        Raises:
            ValueError, FileNotFoundError: the teacher or the file does not fit.
        """


@runtime_checkable
class ReadiesTraining(Protocol):
    """A model that can tell before the first step whether it can be trained."""

    def ready_for_training(self) -> None:
        """Reads what only training needs.

        Raises:
            ValueError, FileNotFoundError: parts or files that do not fit each other.
        """

"""Prediction in batches, among a part of the vocabulary or among more than it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor

from ..files import write_atomically
from ..structures import ClassRequest
from ..text import caption_phrases
from ..text.prompts import SIMPLE_TEMPLATES, TextEncoder, encode_names
from .image_predictor import ImagePredictor
from .metadata import register_metadata
from .vocabulary_extension import extend_model, parent_ids


class CategoryPredictor(ImagePredictor):
    """An `ImagePredictor` for a model that selects its categories.

    Predictors that come from another one share its weights.

    Args:
        cfg, nms_threshold: see `ImagePredictor`.

    Attributes:
        vocabulary: the V categories of the model with their tree.
        request: what images may select from, None the whole vocabulary.
        is_compact: whether it comes from `compact`.
    """

    def __init__(self, cfg: CfgNode, *, nms_threshold: float | None = None) -> None:
        super().__init__(cfg, nms_threshold=nms_threshold)
        self.is_compact = False

    @property
    def requested_vocab_ids(self) -> list[int]:
        """The categories that can be found, ascending."""
        if self.request is None or self.request.vocab_ids is None:
            return list(range(len(self.vocabulary)))
        return self.request.vocab_ids.tolist()

    @property
    def num_selected(self) -> int:
        """K, or how many can be found where nothing is selected."""
        requested = self.request and self.request.num_selected
        return requested or self.model.num_selected or len(self.requested_vocab_ids)

    def restrict(
        self,
        categories: Sequence[str | int] = (),
        *,
        branches: Sequence[str | int] = (),
    ) -> CategoryPredictor:
        """A predictor that selects among some of the categories only.

        The relation still sees the whole vocabulary, so that the kept categories are what they
        were; fewer are scored, and up to K of these reach the detector.

        Args:
            categories: names (all categories of that name) or data-set ids.
            branches: the same, each with all that is below it in the tree.

        Raises:
            ValueError: an unknown name (names that come close are named), or nothing left.
        """
        chosen = {vocab_id for key in _listed(categories) for vocab_id in self.vocabulary.find(key)}
        for key in _listed(branches):
            for root in self.vocabulary.find(key):
                chosen.update(self.vocabulary.hierarchy.branch(root))
        kept = sorted(chosen.intersection(self.requested_vocab_ids))
        if not kept:
            raise ValueError(
                f"nothing is left to find: got categories {list(categories)} and branches "
                f"{list(branches)}, among {len(self.requested_vocab_ids)} that it may find"
            )
        return self._requesting(vocab_ids=torch.tensor(kept))

    def selecting(self, num_selected: int) -> CategoryPredictor:
        """A predictor that selects another number K of categories.

        Raises:
            ValueError: K below 1.
        """
        return self._requesting(num_selected=num_selected)

    def _requesting(self, **changes: Any) -> CategoryPredictor:
        other = copy.copy(self)
        request = dataclasses.replace(self.request or ClassRequest(), **changes)
        other.request = request.to(torch.device(self.cfg.MODEL.DEVICE))
        return other

    def ask(
        self,
        wanted: str | Sequence[str | Sequence[str]],
        *,
        negatives: Sequence[str] = (),
        text_encoder: TextEncoder | None = None,
        templates: Sequence[str] = SIMPLE_TEMPLATES,
    ) -> CategoryPredictor:
        """A predictor that looks for some names alone, as `TextPredictor.ask` gives one.

        Names of the vocabulary are selected among as `restrict` does, others become part of it as
        `extend_vocabulary` does. ``pred_classes`` are places in its ``vocabulary``, ``phrases``
        their names there.

        Args:
            wanted: names, lists of synonyms (each of which is looked for), or a caption whose
                phrases are the names.
            negatives: names that may win a box and are then left out.
            text_encoder: the one that made the embeddings of the training; needed where a name is
                none of the vocabulary.
            templates: of the training.

        Raises:
            ValueError: no names, an empty one, one that is a negative, too, or a name that only an
                encoder could read.
        """
        if isinstance(negatives, str):
            raise ValueError(f"negatives are a list of names, got {negatives!r}")
        names = caption_phrases(wanted) if isinstance(wanted, str) else wanted
        rows = [[name] if isinstance(name, str) else list(name) for name in names]
        listed = [word for row in [*rows, negatives] for word in row]
        if not rows or not all(rows) or not all(map(str.strip, listed)):
            raise ValueError(f"expected names to look for, got {wanted!r}")
        unknown = [name for name in dict.fromkeys(listed) if not self.vocabulary.knows(name)]
        if unknown and text_encoder is None:
            raise ValueError(
                f"{len(unknown)} of {len(listed)} names are not in the vocabulary, {unknown[0]!r} "
                "the first: a text encoder (text_encoder, --text-encoder), the one of the "
                "training, would read them"
            )
        extended = (
            self.extend_vocabulary(unknown, text_encoder=text_encoder, templates=templates)
            if unknown
            else self
        )
        asked = extended.restrict(listed)
        find = extended.vocabulary.find
        kept = {i for row in rows for name in row for i in find(name)}
        if both := [name for name in negatives if kept.intersection(find(name))]:
            raise ValueError(f"{both[0]!r} is wanted and a negative at once")
        asked.dropped = tuple(sorted({i for name in negatives for i in find(name)}))
        return asked

    def extend_vocabulary(
        self,
        names: Sequence[str],
        embeddings: Tensor | None = None,
        *,
        text_encoder: TextEncoder | None = None,
        templates: Sequence[str] = SIMPLE_TEMPLATES,
        parents: Sequence[str | int | Sequence[str | int] | None] | None = None,
        dataset_ids: Sequence[int] | None = None,
    ) -> CategoryPredictor:
        """A predictor with n more categories, all of which may be found.

        Their embeddings enter as the trained ones do: through the same projection and the same
        relation. Below parents of a tree they become part of these, so that the parents change as
        they would have with one more child; the weights of all parents follow the vocabulary's
        size, which matters little. Embeddings are of use where they lie among those the model was
        trained with, as another name's from the same text encoder does.

        Args:
            names: of the new categories.
            embeddings: (n, E), or give a text encoder.
            text_encoder: makes the embeddings from the names.
            templates: sentences with {} for the name; their features are averaged.
            parents: of each new category a name, a data-set id, several, or None.
            dataset_ids: of the new categories, by default those after the highest.

        Raises:
            ValueError: none or both of embeddings and encoder, or arguments that do not fit.
        """
        if isinstance(names, str) or not names:
            raise ValueError(f"expected a list of names, got {names!r}")
        if (embeddings is None) == (text_encoder is None):
            raise ValueError("new categories need either embeddings or a text encoder")
        if embeddings is None:
            embeddings = encode_names(text_encoder, names, templates)
        rows = parent_ids(self.vocabulary, names, parents)
        other = copy.copy(self)
        other.vocabulary = self.vocabulary.extended(names, rows, dataset_ids)
        other.model = extend_model(self.cfg, self.model, other.vocabulary, embeddings)
        other.metadata = MetadataCatalog.get(register_metadata(other.vocabulary))
        other.request = None
        return other

    def compact(self, dtype: torch.dtype = torch.float16) -> CategoryPredictor:
        """A predictor for large vocabularies, about 1.5 KB a category; it cannot be extended.

        It keeps the category queries in the given type and nothing else of a category, and
        computes as before. The others' memory is free when they are no longer referred to.

        Raises:
            ValueError: no floating-point type, or a model that selects nothing.
        """
        other = copy.copy(self)
        other.model, other.is_compact = self.model.compact(dtype), True
        return other

    def save(self, weights: str | Path) -> None:
        """Writes the weights, and the vocabulary beside them as `get_predictor_cfg` looks for it.

        A restriction is not part of it.

        Raises:
            FileExistsError: another vocabulary lies there already.
            ValueError: a compact predictor, whose weights are no longer whole.
        """
        if self.is_compact:
            raise ValueError("a compact predictor cannot be saved: save the one it was made of")
        path = Path(weights).with_name("vocabulary.json")
        if path.is_file() and path.read_text(encoding="utf-8") != self.vocabulary.as_json():
            raise FileExistsError(f"{path} is another vocabulary: choose another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(path)
        content = {"model": self.model.state_dict()}
        write_atomically(weights, lambda file: torch.save(content, file))


def _listed(keys: Sequence[str | int]) -> list[str | int]:
    return [keys] if isinstance(keys, (str, int)) else list(keys)

"""Predictors as the commands and the page want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from ..detector import CategoryTagger, GroundingDINO
from ..files.text_lines import read_lines
from ..text.encoders import choose_encoder
from .category_predictor import CategoryPredictor
from .predictor_config import get_predictor_cfg
from .text_predictor import TextPredictor

AnyPredictor = CategoryPredictor | TextPredictor
Names = Sequence[str | Sequence[str]]


def load_predictor(
    config_file: str,
    weights: str,
    *,
    device: str | None = None,
    overrides: Sequence[str] = (),
    nms_threshold: float | None = None,
) -> AnyPredictor:
    """A predictor of a config and weights, as `get_predictor_cfg` takes them.

    It is a `TextPredictor` where the model reads words.

    Raises:
        FileNotFoundError, ValueError: see `detector_cfg` and `ImagePredictor`.
    """
    options = {"overrides": overrides, "device": device, "check_weights": False}
    cfg = detector_cfg(config_file, weights, **options)
    reads_words = issubclass(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), GroundingDINO)
    kind = TextPredictor if reads_words else CategoryPredictor
    return kind(cfg, nms_threshold=nms_threshold)


def detector_cfg(config_file: str, weights: str, **options: Any) -> CfgNode:
    """As `get_predictor_cfg`, of a model that finds boxes.

    Raises:
        FileNotFoundError: see there.
        ValueError: see there; a model of stage 1, which finds none.
    """
    cfg = get_predictor_cfg(config_file, weights=weights, **options)
    if issubclass(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), CategoryTagger):
        raise ValueError(
            f"the model of {config_file} is a tagger of stage 1, which finds no boxes: give a "
            "detector's config and weights"
        )
    return cfg


@dataclass(frozen=True)
class Question:
    """What a command or a page asks for.

    Attributes:
        wanted: a caption or names, None for whatever the model finds.
        negatives: names that may win a box and are then left out; only along with ``wanted``.
        text_encoder: folder or open_clip model that read the names of a training by categories.
        only: categories to select among.
        branches: the same, with all that is below them in the tree.
        num_selected: K, if not the model's own.
        nms_threshold: see `ImagePredictor`; None leaves the predictor's.
    """

    wanted: str | Names | None = None
    negatives: Sequence[str] = ()
    text_encoder: str | None = None
    only: Sequence[str] = ()
    branches: Sequence[str] = ()
    num_selected: int | None = None
    nms_threshold: float | None = None

    def check_form(self, predictor: AnyPredictor) -> None:
        """Makes sure that the question is one for this kind of model, whatever its words.

        Raises:
            ValueError: it is not.
        """
        if self.negatives and self.wanted is None:
            raise ValueError(f"negatives need names to look for beside them, got {self.negatives}")
        if not isinstance(predictor, TextPredictor):
            return
        if self.only or self.branches or self.num_selected is not None:
            raise ValueError("this model selects no categories: say what to look for in words")
        if self.text_encoder:
            raise ValueError("this model reads words itself: it takes no text encoder")
        if self.wanted is None:
            raise ValueError("this model needs a prompt: give it a caption or names")

    def put_to(self, predictor: AnyPredictor) -> AnyPredictor:
        """A predictor that looks for it.

        Raises:
            ValueError: a model that does not understand the question, or cannot find the names.
        """
        self.check_form(predictor)
        if self.nms_threshold is not None:
            predictor = predictor.suppressing(self.nms_threshold)
        if isinstance(predictor, TextPredictor):
            return predictor.ask(self.wanted, negatives=self.negatives)
        if self.wanted is not None:
            encoder = choose_encoder(self.text_encoder) if self.text_encoder else None
            options = {"negatives": self.negatives, "text_encoder": encoder}
            predictor = predictor.ask(self.wanted, **options)
        if self.only or self.branches:
            predictor = predictor.restrict(self.only, branches=self.branches)
        return predictor if self.num_selected is None else predictor.selecting(self.num_selected)


def read_names(path: str | Path) -> list[str | list[str]]:
    """A name per line; synonyms on one line are separated by '|'. Empty lines are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no name in it, an empty one beside a '|', or no text.
    """
    names: list[str | list[str]] = []
    for number, line in enumerate(read_lines(Path(path)), start=1):
        row = [name.strip() for name in line.split("|")]
        if line and not all(row):
            raise ValueError(f"{path}, line {number}: {line!r} has an empty name beside a '|'")
        if line:
            names.append(row if len(row) > 1 else row[0])
    if not names:
        raise ValueError(f"{path} holds no names: expected one per line")
    return names

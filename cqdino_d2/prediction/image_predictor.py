"""What all predictors have in common: weights in, images in, results out."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from omegaconf import OmegaConf
from torch import nn

from ..engine.checkpointer import load_model
from ..structures import ClassRequest, Vocabulary
from .image_arrays import checked_image
from .labels import labelled
from .metadata import register_metadata
from .predictor_config import build_augmentations

Predictor = TypeVar("Predictor", bound="ImagePredictor")


class ImagePredictor(DefaultPredictor):
    """Detectron2's `DefaultPredictor` with batches, exact sizes and safe weights.

    It resizes images as the test mapper does, so that it predicts what an evaluation scores
    (`build_augmentations` says where Detectron2's own differs), and refuses arrays that are no
    images.

    Args:
        cfg: from `get_predictor_cfg`. The weights that it names are read without running
            anything in them, and must be exactly the model's.
        nms_threshold: of two boxes whose IoU is above it, whatever they are called, the better one
            remains; None leaves all.

    Attributes:
        metadata: names and ids of the vocabulary, in every process that makes a predictor.
        vocabulary: what can be found.
        request: what is looked for, where that is not the model's own choice.
        dropped: vocab_ids that may win a box and are then left out.

    Raises:
        FileNotFoundError: no such weights.
        ValueError: weights that cannot be read or do not fit, with names.
    """

    def __init__(self, cfg: CfgNode, *, nms_threshold: float | None = None) -> None:
        # not Detectron2's own, which fills a model before it loads, and runs what a pickle says
        self.cfg, self.input_format = cfg.clone(), cfg.INPUT.FORMAT
        self.model = _model_of(self.cfg).eval()
        node = OmegaConf.create(cfg.MODEL.CQDINO.VOCABULARY)
        self.vocabulary: Vocabulary = instantiate(node)
        self.metadata = MetadataCatalog.get(register_metadata(self.vocabulary))
        self.aug = build_augmentations(cfg)
        self.request: ClassRequest | None = None
        self.dropped: tuple[int, ...] = ()
        self.nms_threshold = nms_threshold

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """What the model finds in a BGR image: see `batch`."""
        return self.batch([original_image])[0]

    def batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """What the model finds in each of several BGR images, of any sizes.

        Args:
            images: (H, W, 3) uint8 each, or floating point in 0..255 (rounded to uint8).

        Returns:
            As the model's forward pass; its "instances" have ``phrases`` besides, their names.

        Raises:
            TypeError, ValueError: something else than such an image, see `checked_image`; names
                its place in the batch.
        """
        names = self.vocabulary.names
        options = {"dropped": self.dropped, "nms_threshold": self.nms_threshold}
        results = self.run(self.inputs(images), self.request)
        return [labelled(result, names, **options) for result in results]

    def suppressing(self: Predictor, nms_threshold: float | None) -> Predictor:
        """A predictor with the same weights and another ``nms_threshold``."""
        other = copy.copy(self)
        other.nms_threshold = nms_threshold
        return other

    def inputs(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Images of `batch` as the model takes them."""
        inputs = []
        for place, image in enumerate(images):
            try:
                inputs.append(self._prepare(checked_image(image)))
            except (TypeError, ValueError) as error:
                if len(images) == 1:
                    raise
                raise type(error)(f"image {place} of {len(images)}: {error}") from error
        return inputs

    def run(
        self, inputs: Sequence[dict[str, Any]], request: ClassRequest | None = None
    ) -> list[dict[str, Any]]:
        """What the model finds in images as it takes them.

        Images that have the same size for the model go through it together; padding could change
        what is found, so others do not.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, item in enumerate(inputs):
            groups.setdefault(tuple(item["image"].shape), []).append(place)
        results: list[dict[str, Any]] = [{}] * len(inputs)
        arguments = () if request is None else (request,)
        with torch.no_grad():
            for places in groups.values():
                found = self.model([inputs[place] for place in places], *arguments)
                for place, result in zip(places, found, strict=True):
                    results[place] = result
        return results

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        augmented = T.AugInput(image[:, :, ::-1] if self.input_format == "RGB" else image)
        self.aug(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        return {"image": torch.from_numpy(pixels), "height": height, "width": width}


def _model_of(cfg: CfgNode) -> nn.Module:
    """The model with the weights that the config names, with random ones if it names none."""
    if not cfg.MODEL.WEIGHTS:
        return build_model(cfg)
    make = functools.partial(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), cfg)
    return load_model(make, cfg.MODEL.WEIGHTS, torch.device(cfg.MODEL.DEVICE))

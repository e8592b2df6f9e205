"""Stage 1: a detector's backbone, category queries and selection as a multi-label tagger."""

import copy

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from cqdino_d2.detector import CategoryTagger
from cqdino_d2.evaluation import TaggingEvaluator

evaluator = L(TaggingEvaluator)(
    dataset_name="${dataloader.test.dataset.names}",
    output_dir="${train.output_dir}",
    vocabulary="${vocabulary}",
)


def category_tagger_of(detector: DictConfig) -> DictConfig:
    """The tagger whose weights a training of the detector can start from."""
    selection = copy.deepcopy(detector.selection)
    selection.output_dim = detector.neck.dim  # of a part that the tagger does not have
    return L(CategoryTagger)(
        backbone=detector.backbone,
        categories=detector.categories,
        selection=selection,
        category_loss=detector.criterion.category_loss,
        pixel_mean=detector.pixel_mean,
        pixel_std=detector.pixel_std,
        autocast_dtype=detector.autocast_dtype,
        inference_dtype=detector.inference_dtype,
    )

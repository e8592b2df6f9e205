"""Losses in which images that have a label and no box do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..structures import LayerPredictions
from .matched_losses import Matched, MatchedLoss

_PROPOSALS = "_enc"


def of_images(
    predictions: LayerPredictions, matched: Matched, images: Sequence[int]
) -> tuple[LayerPredictions, Matched]:
    """The predictions of some images of a batch, and their matches.

    The normaliser stays that of the whole batch. Of no image at all everything is empty, so that a
    loss is 0 and every weight has a gradient, of 0: no process waits for another one's.

    Args:
        predictions: of B images.
        matched: their M matches.
        images: n positions in the batch, ascending.

    Returns:
        The same for n images.
    """
    kept = torch.tensor(list(images), dtype=torch.int64, device=matched.images.device)
    place = torch.full((len(predictions.logits),), -1, device=kept.device)
    place[kept] = torch.arange(len(kept), device=kept.device)
    pairs = (place[matched.images] >= 0).nonzero()[:, 0]
    seen = matched.region_embeddings
    return (
        replace(
            predictions,
            logits=predictions.logits[kept],
            boxes_cxcywh_norm=predictions.boxes_cxcywh_norm[kept],
            extras={name: values[kept] for name, values in predictions.extras.items()},
        ),
        replace(
            matched,
            images=place[matched.images[pairs]],
            query_ids=matched.query_ids[pairs],
            target_ids=matched.target_ids[pairs],
            class_targets=matched.class_targets[kept],
            boxes_cxcywh_norm=matched.boxes_cxcywh_norm[pairs],
            vocab_ids=matched.vocab_ids[pairs],
            slot_vocab_ids=matched.slot_vocab_ids[kept],
            region_embeddings=None if seen is None else seen[pairs],
            listed=tuple(matched.listed[image] for image in images) if matched.listed else (),
            image_level=(False,) * len(kept),
        ),
    )


def masked_losses(
    loss: MatchedLoss, predictions: LayerPredictions, matched: Matched, masked: frozenset[str]
) -> dict[str, Tensor]:
    """What a loss gives, some of it without the image-level images.

    As in RichSem's official code the proposals count in every loss, whatever the image.

    Args:
        loss: of one layer.
        predictions: of B images.
        matched: their matches; says which images are image-level.
        masked: names of what the loss gives.

    Returns:
        The losses by name.
    """
    losses = loss(predictions, matched)
    others = [i for i, image_level in enumerate(matched.image_level) if not image_level]
    if not masked & losses.keys() or len(others) == len(matched.image_level):
        return losses
    if predictions.name == _PROPOSALS:
        return losses
    kept = loss(*of_images(predictions, matched, others))
    return {name: kept[name] if name in masked else value for name, value in losses.items()}

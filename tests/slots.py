"""What stands between the stages, made by hand, and small stages that are made of several parts."""

from __future__ import annotations

import torch

from cqdino_d2.criterion import HungarianMatcher, SetCriterion
from cqdino_d2.structures import ImageTargets, Proposals, SelectedCategories
from cqdino_d2.transformer import FusionEncoder, ImageTokenizer


def make_slots(features, vocab_ids=None, valid=None, logits=None):
    """Class slots from features (B, K, C); by default slot k is category k and all are valid."""
    batch, num_slots, _ = features.shape
    if vocab_ids is None:
        vocab_ids = torch.arange(num_slots).expand(batch, -1)
    if valid is None:
        valid = torch.ones(batch, num_slots, dtype=torch.bool)
    if logits is None:
        logits = torch.zeros(batch, int(vocab_ids.max()) + 1)
    return SelectedCategories(features=features, vocab_ids=vocab_ids, valid=valid, logits=logits)


def make_tokens(maps, image_sizes, padded_size, seed=0):
    """Image tokens from maps (B, C, H_l, W_l), with a seeded level embedding."""
    torch.manual_seed(seed)
    tokenizer = ImageTokenizer(dim=maps[0].shape[1], num_levels=len(maps))
    return tokenizer(maps, image_sizes, padded_size)


def make_targets(boxes_cxcywh_norm, vocab_ids, image_size=(48, 80)):
    """Targets of one image from plain lists."""
    boxes = torch.tensor(boxes_cxcywh_norm, dtype=torch.float32).reshape(-1, 4)
    return ImageTargets(boxes, torch.tensor(vocab_ids, dtype=torch.int64), image_size)


def make_proposals(content, boxes_cxcywh_norm, logits):
    """Proposals (B, Q, ...) that came from the first Q tokens."""
    batch, num_queries, _ = boxes_cxcywh_norm.shape
    token_ids = torch.arange(num_queries).expand(batch, -1)
    return Proposals(content, boxes_cxcywh_norm, logits, token_ids)


def make_encoder(dim, num_levels=2, num_layers=2):
    """An encoder in which image and slots exchange features, without dropout."""
    return FusionEncoder(
        dim=dim,
        num_levels=num_levels,
        num_layers=num_layers,
        num_heads=2,
        hidden_dim=24,
        fusion_dim=8,
        fusion_dropout=0.0,
    )


def make_criterion(class_weight=1.0, l1_weight=5.0, giou_weight=2.0):
    """A criterion without a loss of the selection."""
    return SetCriterion(
        matcher=HungarianMatcher(),
        category_loss=None,
        class_weight=class_weight,
        l1_weight=l1_weight,
        giou_weight=giou_weight,
    )

"""What stands between the stages, made by hand, and small stages that are made of several parts."""

from __future__ import annotations

from functools import partial

import torch

from cqdino_d2.criterion import BoxLosses, FocalLoss, HungarianMatcher, SetCriterion
from cqdino_d2.structures import CategoryScores, ClassSlots, ImageTargets, Proposals
from cqdino_d2.transformer import BiAttention, DeformableEncoderLayer, Encoder, ImageTokenizer


def make_slots(features, vocab_ids=None, valid=None, logits=None):
    """Class slots from features (B, K, C); by default slot k is category k and all are valid."""
    batch, num_slots, _ = features.shape
    if vocab_ids is None:
        vocab_ids = torch.arange(num_slots).expand(batch, -1)
    if valid is None:
        valid = torch.ones(batch, num_slots, dtype=torch.bool)
    scores = None if logits is None else CategoryScores(logits)
    return ClassSlots(features=features, vocab_ids=vocab_ids, valid=valid, scores=scores)


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
    image_layer = partial(DeformableEncoderLayer, dim=dim, num_heads=2, hidden_dim=24)
    exchange = partial(BiAttention, dim=dim, attention_dim=8, num_heads=4, dropout=0.0)
    return Encoder(
        image_layer=image_layer, exchange=exchange, num_levels=num_levels, num_layers=num_layers
    )


def make_criterion(class_weight=1.0, l1_weight=5.0, giou_weight=2.0):
    """A criterion without a loss of the selection."""
    return SetCriterion(
        matcher=HungarianMatcher(),
        losses={
            "focal": FocalLoss(weight=class_weight),
            "boxes": BoxLosses(l1_weight=l1_weight, giou_weight=giou_weight),
        },
        category_loss=None,
    )

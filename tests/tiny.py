"""Tiny detectors and batches for the tests."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.structures import Boxes, Instances

from cqdino_d2.structures import random_vocabulary

ROOT = Path(__file__).resolve().parent.parent
NUM_CATEGORIES = 40


def tiny_config(relation: str = "tree", num_categories: int = NUM_CATEGORIES, overrides=()):
    """The tiny config of one relation, with a made-up vocabulary."""
    cfg = LazyConfig.load(str(ROOT / f"configs/emojidet/tiny_{relation}.py"))
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=num_categories)
    return LazyConfig.apply_overrides(cfg, list(overrides))


def tiny_model(relation: str = "tree", seed: int = 0, **kwargs):
    """A tiny detector in which no parameter starts at zero, so that every part has an effect."""
    torch.manual_seed(seed)
    model = instantiate(tiny_config(relation, **kwargs).model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def make_input(size=(64, 64), boxes=((4, 4, 30, 40), (20, 10, 60, 50)), classes=None, seed=0):
    """One of Detectron2's input dicts with a random picture."""
    generator = torch.Generator().manual_seed(seed)
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    classes = range(5, 5 + len(boxes)) if classes is None else classes
    instances.gt_classes = torch.tensor(list(classes), dtype=torch.int64)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {
        "image": image,
        "height": size[0],
        "width": size[1],
        "image_id": seed,
        "instances": instances,
    }

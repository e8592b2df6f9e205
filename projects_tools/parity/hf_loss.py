"""The losses of transformers' Grounding DINO (5.24) on the tensors of an `mm_head` fixture.

Another recipe than mmdet's: a box's class cost is the mean over its own tokens, and the weights
differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from torch import nn

from cqdino_d2.text import PromptTokenizer, caption_prompt

from .fixture import ROOT
from .mm_head import CONFIG, HeadFixture

WEIGHTS = {"class": 2.0, "l1": 5.0, "giou": 2.0}
_NAMES = {"class": "ce", "l1": "bbox", "giou": "giou"}


def recipe() -> nn.Module:
    """The criterion of transformers and Open-GroundingDino, by options of ours."""
    criterion = LazyConfig.load(str(ROOT / CONFIG)).model.criterion
    criterion.matcher.update(class_weight=1.0, all_slots=False)
    criterion.losses.focal.weight = WEIGHTS["class"]
    return instantiate(criterion)


def check_label_maps(about: Mapping[str, Any], tokenizer: PromptTokenizer, compare: Any) -> None:
    """Which tokens of a caption make up each of its phrases."""
    case = about["build_label_maps"]
    for i, (ids, maps) in enumerate(zip(case["input_ids"], case["maps"], strict=True)):
        padding = tokenizer.vocabulary["[PAD]"]
        caption = tokenizer.decode([one for one in ids if one != padding][1:-1])
        rows = tokenizer([caption_prompt(caption)]).phrases[0]
        compare.equal(f"label_maps.{i}", [row.nonzero().flatten().tolist() for row in rows], maps)


def check_hf_losses(about: Mapping[str, Any], tensors: HeadFixture, compare: Any) -> None:
    """Assignments and losses of every image by itself.

    Args:
        about: the JSON of the losses.
        tensors: the fixture they were made from.
    """
    criterion = recipe()
    for image, target in enumerate(tensors.targets()[:2]):
        slots, output, proposals = tensors.alone(image)
        classes, boxes = slots.multi_hot(0, target.vocab_ids), target.boxes_cxcywh_norm
        last = output.layers()[-1]
        pairs = criterion.matcher(last.logits, last.boxes_cxcywh_norm, [classes], [boxes])
        recorded = torch.tensor(about[f"image_{image}_assignment_last_layer"])
        compare.same(f"assignment {image}", torch.stack(pairs[0]), recorded)
        losses = criterion(output, proposals, slots, [target], None)
        recorded = about[f"image_{image}_alone_with_auxiliary"]["parts"]
        for name, value in losses.items():
            kind, _, layer = name.removeprefix("loss_").partition("_")
            theirs = f"loss_{_NAMES[kind]}" + (f"_{layer}" if layer else "")
            ours = value / WEIGHTS[kind]
            compare.close(f"{image}.{theirs}", ours, torch.tensor(recorded[theirs]))

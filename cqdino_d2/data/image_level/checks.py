"""Checks of image-level sets before a long run."""

from __future__ import annotations

from detectron2.config import instantiate
from omegaconf import DictConfig

from ..checks import Findings, ImageChoice, check_images
from .sets import records_with_notes


def check_image_level_sets(cfg: DictConfig, choice: ImageChoice, findings: Findings) -> None:
    """What a training with a config makes of its image-level sets; nothing where it has none.

    Args:
        cfg: the whole config.
        choice: which images are opened.
        findings: gets the results.

    Raises:
        ValueError: a set that cannot be used at all.
        FileNotFoundError: a file is missing.
    """
    batches = cfg.dataloader.train.get("image_level")
    if batches is None:
        return
    names, vocabulary = batches.dataset.names, instantiate(cfg.vocabulary)
    for name in [names] if isinstance(names, str) else names:
        findings.title(f"{name} (image-level)")
        records, notes = records_with_notes(name, vocabulary)
        for note in notes:
            findings.warn(note)
        shown = len(set(records.categories().indices.tolist()))
        findings.say(f"{len(records):,} images of {shown:,} of {len(vocabulary):,} categories")
        replaced = batches.get("replace_unreadable", True)
        check_images(records, choice, findings, replaced=replaced)

"""Checks of a training with prompts: names, texts, and what captions cannot hold."""

from __future__ import annotations

import numpy as np
from detectron2.config import instantiate
from omegaconf import DictConfig

from ...annotations.grounded_texts import GroundedTexts
from ...annotations.odvg_sets import OdvgTexts
from ..checks import (
    SHOWN,
    Findings,
    ImageChoice,
    check_annotations,
    check_categories,
    check_evaluator,
    check_images,
    set_names,
    tell_events,
)
from ..records import Records
from ..registration import (
    is_set_of_texts,
    registered_annotations,
    registered_records,
    registered_texts,
)
from ..samplers import record_category_pairs
from ..text_records import TextRecords
from .names import NameCaptions, PromptNames
from .sentences import SentenceCaptions
from .training import TrainingPrompts


def is_prompted(cfg: DictConfig) -> bool:
    """Whether the training of a config asks for words."""
    return cfg.dataloader.train.mapper.get("prompts") is not None


def check_prompted_sets(cfg: DictConfig, choice: ImageChoice, findings: Findings) -> np.ndarray:
    """All datasets of a config whose training has prompts.

    Args:
        cfg: the whole config.
        choice: which images are opened, and which texts are read in tokens.
        findings: gets the results.

    Returns:
        (n,) training images of each category of each set, one set after the other.

    Raises:
        ValueError: something that cannot be read at all, or names that no caption can hold.
        FileNotFoundError: a file is missing.
    """
    train, test = (set_names(cfg, part) for part in ("train", "test"))
    prompts = instantiate(cfg.dataloader.train.mapper.prompts)
    frequencies = []
    for name in dict.fromkeys([*train, *test]):
        findings.title(f"{name} ({'training' if name in train else 'test'})")
        if is_set_of_texts(name):
            check_texts(registered_texts(name), findings)
        elif registered_annotations(name).has_categories:
            check_annotations(name, findings)
            counts = check_categories(name, findings)
            frequencies += [counts] if name in train else []
        else:
            findings.warn("the file lists no categories")
        records = registered_records(name)
        check_images(records, choice, findings)
        if name in train:
            check_captions(prompts, name, records, choice, findings)
    findings.title("training")
    check_evaluator(cfg, findings)
    return np.concatenate([np.zeros(0, np.int64), *frequencies])


def check_texts(texts: GroundedTexts, findings: Findings) -> None:
    """Counts of texts, phrases and boxes, and which boxes were dropped and why."""
    counts = np.diff(texts.box_offsets)
    phrases = sum(map(len, texts.phrases)) or len(texts)  # an expression is its own only phrase
    findings.say(
        f"{len(texts):,} texts, {phrases:,} phrases, "
        f"{len(texts.boxes_xywh):,} boxes, {int((counts == 0).sum()):,} texts without a box, at "
        f"most {int(counts.max(initial=0))} in one"
    )
    if isinstance(texts, OdvgTexts):
        tell_events(texts.facts, findings)
        if cut := texts.facts["cut_words"][0]:
            findings.warn(
                f"{cut:,} phrases begin or end inside a word (the first: line "
                f"{texts.facts['cut_words'][1]}): are the spans shifted?"
            )


def check_captions(
    prompts: TrainingPrompts,
    name: str,
    records: Records | TextRecords,
    choice: ImageChoice,
    findings: Findings,
) -> None:
    """What the captions of a set cannot hold."""
    captions = prompts.captions[name]
    if isinstance(captions, NameCaptions) and isinstance(records, Records):
        _check_names(captions.names, records, findings)
    elif isinstance(captions, SentenceCaptions) and isinstance(records, TextRecords):
        _check_sentences(captions, records, choice, findings)


def _check_names(names: PromptNames, records: Records, findings: Findings) -> None:
    costs = np.asarray([max(one.cost for one in spoken) for spoken in names.spoken])
    findings.say(
        f"the {len(names):,} names take {int(costs.sum()):,} tokens, a caption holds {names.budget}"
    )
    if shared := names.shared():
        findings.warn(
            f"{len(shared):,} names stand for several categories, which a prompt cannot tell "
            f"apart: {shared[:SHOWN]}"
        )
    rows, vocab_ids = record_category_pairs(records.without_crowd().categories()).T
    needed = np.bincount(rows, costs[vocab_ids], minlength=len(records))
    if len(full := np.flatnonzero(needed > names.budget)):
        ids = [records[row]["image_id"] for row in full[:SHOWN].tolist()]
        findings.warn(
            f"{len(full):,} images show more than a caption can name; at each draw the boxes of "
            f"some of their categories are lost: the images {ids}"
        )


def _check_sentences(
    captions: SentenceCaptions, records: TextRecords, choice: ImageChoice, findings: Findings
) -> None:
    rows = choice.rows(len(records)).tolist()
    cut, lost, ids = 0, 0, []
    for row in rows:
        record = records[row]
        drawn = captions.cut(record["prompt"])
        if drawn.prompt.caption == record["prompt"].caption:
            continue
        cut += 1
        gone = sum(one["category_id"] in drawn.lost for one in record["annotations"])
        lost += gone
        ids += [record["image_id"]] if gone else []
    findings.say(f"{len(rows):,} of {len(records):,} texts read in tokens")
    if cut:
        findings.warn(
            f"{cut:,} of these are longer than a caption and are cut; {lost:,} boxes of phrases "
            f"beyond the cut are lost: of the texts {ids[:SHOWN]}"
        )

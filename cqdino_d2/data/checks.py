"""Checks of a training's data before a long run: what keeps it from starting or would end it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig
from tqdm import tqdm

from ..files.images import read_image
from ..structures import Vocabulary, one_line
from .embedding_files import load_category_embeddings
from .image_sizes import wrong_size
from .records import Records
from .registration import dataset_vocabulary, registered_annotations, registered_records
from .samplers import record_category_pairs

SHOWN = 5  # problems of one kind that are named


@dataclass
class Findings:
    """What was found, told line by line.

    Attributes:
        tell: takes each line, fit for a terminal.
        problems: what keeps a training from starting, or would end it later.
    """

    tell: Callable[[str], None]
    problems: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        """What the next lines are about."""
        self.tell(one_line(text))

    def say(self, text: str) -> None:
        """States a fact."""
        self.tell(f"  {one_line(text)}")

    def warn(self, text: str) -> None:
        """States what a person should look at."""
        self.tell(f"  NOTE: {one_line(text)}")

    def fail(self, text: str) -> None:
        """States a problem."""
        self.tell(f"  PROBLEM: {one_line(text)}")
        self.problems.append(text)


@dataclass(frozen=True)
class ImageChoice:
    """Which images are opened, and how.

    Attributes:
        count: how many of each set, drawn at random; None for all.
        workers: processes.
        seed: of the draw.
    """

    count: int | None
    workers: int
    seed: int

    def rows(self, total: int) -> np.ndarray:
        """The rows chosen among ``total`` images, ascending."""
        rows = np.arange(total)
        if self.count is None or self.count >= total:
            return rows
        return np.sort(np.random.default_rng(self.seed).choice(rows, self.count, replace=False))


def check_annotations(name: str, findings: Findings) -> None:
    """Counts of images and boxes, and which boxes were dropped and why."""
    annotations = registered_annotations(name)
    columns, facts = annotations.columns, annotations.facts
    used, crowd = len(columns["vocab_ids"]), int(columns["is_crowd"].sum())
    counts = np.diff(columns["box_offsets"])
    findings.say(
        f"{len(annotations):,} images, {facts['annotations']:,} annotations, {used:,} boxes kept "
        f"({crowd:,} crowd), {int((counts == 0).sum()):,} images without a box, at most "
        f"{int(counts.max(initial=0))} in one"
    )
    tell_events(facts, findings)
    if facts["repeated_ids"]:
        findings.warn(
            f"{facts['repeated_ids']:,} annotations have the id of another one; they are numbered "
            "anew here, but pycocotools and lvis-api give other figures for this file"
        )
    if facts["zero_ids"]:
        findings.warn("an annotation has the id 0: evaluations, as pycocotools, never find it")
    if facts["unsized_images"]:
        findings.warn(f"{facts['unsized_images']:,} images have no size here: theirs is taken")
    names = Counter(annotations.text("file_name", row) for row in range(len(annotations)))
    if repeated := [file_name for file_name, count in names.items() if count > 1]:
        findings.warn(f"{len(repeated):,} image files are listed twice: {repeated[:SHOWN]}")
    if not len(annotations):
        findings.fail(f"{name} has no images")


def tell_events(facts: Mapping[str, Any], findings: Findings) -> None:
    """What happened to boxes, and where first if that is known."""
    for event, count in sorted(facts["events"].items()):
        line = facts.get("first_lines", {}).get(event)
        findings.warn(
            f"{count:,} boxes {event if event == 'clipped' else f'dropped: {event}'}"
            + (f" (the first: line {line})" if line else "")
        )


def check_categories(name: str, findings: Findings) -> np.ndarray:
    """Names and the number of images per category; returns the latter, (V,)."""
    vocabulary, records = dataset_vocabulary(name), registered_records(name)
    pairs = record_category_pairs(records.categories())
    counts = np.bincount(pairs[:, 1], minlength=len(vocabulary))
    repeated = len(vocabulary) - len(set(vocabulary.names))
    metadata = MetadataCatalog.get(name)
    findings.say(
        f"{len(vocabulary):,} categories, {int((counts > 0).sum()):,} with images "
        f"(median {int(np.median(counts))}, most {int(counts.max())}); "
        f"{repeated:,} names are there more than once"
    )
    for entry in ("frequency", "novel"):
        values = metadata.get(entry)
        if values is not None:
            findings.say(f"{entry}: {dict(sorted(Counter(map(str, values)).items()))}")
    return counts


def check_tree(vocabulary: Vocabulary, findings: Findings) -> None:
    """Shape of the hierarchy."""
    hierarchy = vocabulary.hierarchy
    parents = np.diff(hierarchy.parents.offsets)
    if not parents.any():
        findings.say("no tree")
        return
    related = np.diff(hierarchy.category_ancestors.offsets) > 0
    related |= np.diff(hierarchy.category_children.offsets) > 0
    levels = np.bincount(hierarchy.levels[: len(vocabulary)])
    findings.say(
        f"tree: {hierarchy.num_nodes:,} nodes ({hierarchy.num_nodes - len(vocabulary):,} no "
        f"category), {int((parents > 1).sum()):,} with several parents; categories per level: "
        f"{levels[1:].tolist()}"
    )
    if alone := int((~related).sum()):
        findings.warn(f"{alone:,} categories are related to no other")


def _problem_with(record: dict[str, Any]) -> str | None:
    """What is wrong with an image; read as a training would read it."""
    try:
        size = (record["height"], record["width"])
        read_image(record["file_name"], "RGB", record["image_id"], size=size)
        return wrong_size(record) or None
    except (OSError, ValueError) as error:
        return str(error)


_records: Records | None = None  # of the pool's processes


def _set_records(records: Records) -> None:
    global _records
    _records = records


def _check_row(row: int) -> str | None:
    assert _records is not None
    return _problem_with(_records[row])


def check_images(
    records: Sequence[Mapping[str, Any]],
    choice: ImageChoice,
    findings: Findings,
    *,
    replaced: bool = False,
) -> None:
    """Opens images in several processes.

    Args:
        records: of a dataset.
        choice: which, and how.
        findings: gets the result.
        replaced: whether a training uses another image instead, so that one that cannot be used is
            no problem.
    """
    rows = choice.rows(len(records))
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(choice.workers, context, _set_records, (records,)) as pool:
        found: Iterable[str | None] = pool.map(_check_row, rows.tolist(), chunksize=16)
        found = tqdm(found, "  images", len(rows), unit="image", mininterval=1.0, leave=False)
        problems = [problem for problem in found if problem is not None]
    findings.say(f"{len(rows):,} of {len(records):,} images opened")
    if problems:
        said = f"{len(problems):,} of these cannot be used: {'; '.join(problems[:SHOWN])}"
        (findings.warn if replaced else findings.fail)(said)


def check_mapper(cfg: DictConfig, count: int, findings: Findings) -> list[dict[str, Any]]:
    """Maps training samples as the training would; returns the first ones."""
    cfg = cfg.copy()
    cfg.dataloader.train.num_workers = 0
    batches = instantiate(cfg.dataloader.train)
    samples: list[dict[str, Any]] = []
    for batch in batches:
        samples += batch
        if len(samples) >= count:
            break
    samples = samples[:count]
    boxes = sum(len(sample["instances"]) for sample in samples)
    dropped, lost = (
        sum(sample.get(count, 0) for sample in samples) for count in ("dropped_boxes", "lost_boxes")
    )
    shapes = np.asarray([sample["image"].shape[1:] for sample in samples])
    findings.say(
        f"{len(samples)} training samples mapped: {boxes} boxes, {dropped} lost to augmentation, "
        f"{f'{lost} without room in a caption, ' if lost else ''}"
        f"sizes {shapes.min(axis=0)[::-1].tolist()} to {shapes.max(axis=0)[::-1].tolist()}"
    )
    return samples


def check_evaluator(cfg: DictConfig, findings: Findings) -> None:
    """Whether what is predicted for the test set can be scored, as the training will ask."""
    try:
        instantiate(cfg.dataloader.evaluator).check()
    except (ValueError, FileNotFoundError) as error:
        findings.fail(str(error))
        return
    findings.say("the test set's annotations can be used")


def check_embeddings(cfg: DictConfig, vocabulary: Vocabulary, findings: Findings) -> None:
    """Whether the file of category embeddings fits vocabulary and model."""
    path = cfg.train.category_embeddings
    if not path:
        findings.say("no category embeddings: they start at random")
        return
    node = cfg.model.categories
    dim = int(node.get("embedding_dim") or node.dim)
    try:
        embeddings = load_category_embeddings(path, vocabulary, dim)
    except (ValueError, FileNotFoundError) as error:
        findings.fail(str(error))
        return
    if not bool(embeddings.isfinite().all()):
        findings.fail(f"{path} has embeddings that are not finite")
    findings.say(
        f"{path}: an embedding of {dim} numbers for each of {len(embeddings):,} categories"
    )


def set_names(cfg: DictConfig, part: str) -> list[str]:
    """The datasets that a part of the data config names: 'train' or 'test'.

    Raises:
        ValueError: it names none.
    """
    node = cfg.dataloader[part].dataset
    if "names" not in node:
        raise ValueError(f"dataloader.{part}.dataset has no 'names' of registered datasets")
    return [node["names"]] if isinstance(node["names"], str) else list(node["names"])


def check_set(name: str, vocabulary: Vocabulary, findings: Findings) -> np.ndarray:
    """Annotations, categories and tree of one set.

    Args:
        name: a registered dataset.
        vocabulary: of the training.
        findings: gets the results.

    Returns:
        (V,) images of the set per category of the training.
    """
    images = np.zeros(len(vocabulary), dtype=np.int64)
    check_annotations(name, findings)
    if not registered_annotations(name).has_categories:
        findings.warn("the file lists no categories")
        return images
    counts = check_categories(name, findings)
    own = dataset_vocabulary(name)
    check_tree(own, findings)
    unknown = [i for i in own.dataset_ids if i not in vocabulary.vocab_id_of]
    if unknown:
        findings.fail(f"{len(unknown)} category ids are unknown in training: {unknown[:SHOWN]}")
    try:
        vocabulary.check_numbering(dict(zip(own.dataset_ids, own.names, strict=True)), name)
    except ValueError as error:
        findings.fail(str(error))
    for dataset_id, count in zip(own.dataset_ids, counts.tolist(), strict=True):
        if dataset_id in vocabulary.vocab_id_of:
            images[vocabulary.vocab_id_of[dataset_id]] = count
    return images


def check_sets(cfg: DictConfig, choice: ImageChoice, findings: Findings) -> np.ndarray:
    """All datasets of a config, and its category embeddings.

    Args:
        cfg: the whole config.
        choice: which images are opened.
        findings: gets the results.

    Returns:
        (V,) training images per category.

    Raises:
        ValueError: something that cannot be read at all.
        FileNotFoundError: a file is missing.
    """
    train, test = (set_names(cfg, part) for part in ("train", "test"))
    vocabulary = dataset_vocabulary(train)
    frequencies = np.zeros(len(vocabulary), dtype=np.int64)
    for name in dict.fromkeys([*train, *test]):
        findings.title(f"{name} ({'training' if name in train else 'test'})")
        images = check_set(name, vocabulary, findings)
        frequencies += images if name in train else 0
        check_images(registered_records(name), choice, findings)
    findings.title("training")
    if unseen := int((frequencies == 0).sum()):
        findings.warn(f"{unseen:,} of {len(vocabulary):,} categories have no training image")
    check_embeddings(cfg, vocabulary, findings)
    check_evaluator(cfg, findings)
    return frequencies

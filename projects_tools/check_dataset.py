"""Checks the data of a config before a long run.

Examples:
    python projects_tools/check_dataset.py --config-file configs/v3det/cqdino_tree_swinb22k.py
    python projects_tools/check_dataset.py --config-file C --images all --output output/check

Looks at the annotations of all training and test sets, opens images (a sample, or all), maps some
training samples as the training would, compares vocabularies, tree and category embeddings, and
writes two pictures: contact_sheet.png (training samples with their boxes) and
category_frequency.png. The exit code is 0 if a training can start, 1 if something is wrong, 2 if
the config cannot be used.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from cqdino_d2.data import (
    Records,
    dataset_vocabulary,
    load_category_embeddings,
    register_all,
    registered_annotations,
    registered_records,
)
from cqdino_d2.data.samplers import record_category_pairs
from cqdino_d2.engine import load_config
from cqdino_d2.files.images import read_image
from cqdino_d2.structures import Vocabulary
from cqdino_d2.visualization.dataset_pictures import draw_contact_sheet, draw_frequencies

SHOWN = 5  # problems of one kind that are named


@dataclass
class Findings:
    """What was found, line by line as it is printed.

    Attributes:
        problems: what keeps a training from starting, or would end it later.
    """

    problems: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """States a fact."""
        print(f"  {text}", flush=True)

    def warn(self, text: str) -> None:
        """States what a person should look at."""
        print(f"  NOTE: {text}", flush=True)

    def fail(self, text: str) -> None:
        """States a problem."""
        print(f"  PROBLEM: {text}", flush=True)
        self.problems.append(text)


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
    for event, count in sorted(facts["events"].items()):
        findings.warn(f"{count:,} boxes {event if event == 'clipped' else f'dropped: {event}'}")
    names = Counter(annotations.text("file_name", row) for row in range(len(annotations)))
    if repeated := [file_name for file_name, count in names.items() if count > 1]:
        findings.warn(f"{len(repeated):,} image files are listed twice: {repeated[:SHOWN]}")
    if not len(annotations):
        findings.fail(f"{name} has no images")


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
            findings.say(f"{entry}: {dict(sorted(Counter(values).items()))}")
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
        image = read_image(record["file_name"], "RGB", record["image_id"], size=size)
    except (OSError, ValueError) as error:
        return str(error)
    if image.shape[:2] != size:
        return (
            f"image {record['image_id']}: {record['file_name']} is {image.shape[1]} x "
            f"{image.shape[0]}, its annotations say {size[1]} x {size[0]}"
        )
    return None


_records: Records | None = None  # of the pool's processes


def _set_records(records: Records) -> None:
    global _records
    _records = records


def _check_row(row: int) -> str | None:
    assert _records is not None
    return _problem_with(_records[row])


def check_images(
    records: Records, choice: str, workers: int, seed: int, findings: Findings
) -> None:
    """Opens images in several processes.

    Args:
        records: of a data set.
        choice: 'all', or how many, drawn at random.
        workers: processes.
        seed: of the draw.
        findings: gets the result.
    """
    rows = np.arange(len(records))
    if choice != "all":
        count = min(int(choice), len(rows))
        rows = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, _set_records, (records,)) as pool:
        found: Iterable[str | None] = pool.map(_check_row, rows.tolist(), chunksize=16)
        found = tqdm(found, "  images", len(rows), unit="image", mininterval=1.0, leave=False)
        problems = [problem for problem in found if problem is not None]
    findings.say(f"{len(rows):,} of {len(records):,} images opened")
    if problems:
        findings.fail(f"{len(problems):,} of these cannot be used: {'; '.join(problems[:SHOWN])}")


def check_mapper(cfg: DictConfig, count: int, output: Path, findings: Findings) -> None:
    """Maps training samples as the training would and draws the first ones."""
    cfg = cfg.copy()
    cfg.dataloader.train.num_workers = 0
    vocabulary = instantiate(cfg.vocabulary)
    batches = instantiate(cfg.dataloader.train)
    samples: list[dict[str, Any]] = []
    for batch in batches:
        samples += batch
        if len(samples) >= count:
            break
    samples = samples[:count]
    boxes = sum(len(sample["instances"]) for sample in samples)
    dropped = sum(sample.get("dropped_boxes", 0) for sample in samples)
    shapes = np.asarray([sample["image"].shape[1:] for sample in samples])
    findings.say(
        f"{len(samples)} training samples mapped: {boxes} boxes, {dropped} lost to augmentation, "
        f"sizes {shapes.min(axis=0)[::-1].tolist()} to {shapes.max(axis=0)[::-1].tolist()}"
    )
    draw_contact_sheet(samples, vocabulary, output / "contact_sheet.png")
    findings.say(f"{output / 'contact_sheet.png'}")


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


def _set_names(cfg: DictConfig, part: str) -> list[str]:
    node = cfg.dataloader[part].dataset
    if "names" not in node:
        raise ValueError(f"dataloader.{part}.dataset has no 'names' of registered data sets")
    return [node["names"]] if isinstance(node["names"], str) else list(node["names"])


def check_set(name: str, vocabulary: Vocabulary, findings: Findings) -> np.ndarray:
    """Annotations, categories and tree of one set.

    Args:
        name: a registered data set.
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


def check_sets(cfg: DictConfig, given: argparse.Namespace, findings: Findings) -> None:
    """All checks of a config."""
    train, test = (_set_names(cfg, part) for part in ("train", "test"))
    vocabulary = dataset_vocabulary(train)
    frequencies = np.zeros(len(vocabulary), dtype=np.int64)
    for name in dict.fromkeys([*train, *test]):
        print(f"{name} ({'training' if name in train else 'test'})", flush=True)
        images = check_set(name, vocabulary, findings)
        frequencies += images if name in train else 0
        records = registered_records(name)
        check_images(records, given.images, given.workers, cfg.train.seed, findings)
    print("training", flush=True)
    if unseen := int((frequencies == 0).sum()):
        findings.warn(f"{unseen:,} of {len(vocabulary):,} categories have no training image")
    draw_frequencies(frequencies, given.output / "category_frequency.png")
    findings.say(f"{given.output / 'category_frequency.png'}")
    check_embeddings(cfg, vocabulary, findings)
    if not findings.problems:
        check_mapper(cfg, given.samples, given.output, findings)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a lazy config")
    parser.add_argument("--images", default="1000", help="images to open per set: a number or all")
    parser.add_argument("--samples", type=int, default=16, help="on the contact sheet")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="folder of the pictures (default: the run's)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    given = parser.parse_args(arguments)
    if given.images != "all" and not given.images.isdigit():
        parser.error(f"--images is a number or 'all', got {given.images!r}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks; returns the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    given = parse_arguments(arguments)
    findings = Findings()
    try:
        cfg = load_config(given.config_file, given.overrides)
        register_all(cfg.train.get("datasets_root"))
        OmegaConf.resolve(cfg.train)
        given.output = given.output or Path(cfg.train.output_dir) / "check"
        given.output.mkdir(parents=True, exist_ok=True)
        check_sets(cfg, given, findings)
    except (ValueError, OSError) as error:
        print(f"check_dataset: {error}", file=sys.stderr)
        return 2
    print(f"{len(findings.problems)} problems")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes a synthetic dataset of a real one's size, with detections, to measure evaluations on.

Example:
    python projects_tools/benchmark.py make_synthetic_results --size v3det --output /tmp/synthetic

DIR/<size>/ gets annotations.json, results.json (v3det: 1.1 GB) and category_tree.json. The content
depends on the size and the seed alone. A finished set is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

WIDTH, HEIGHT = 1024, 768
_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Size:
    """How much of everything; the real sets' numbers."""

    images: int
    categories: int
    boxes: int
    per_image: int


SIZES = {
    "v3det": Size(images=29_821, categories=13_204, boxes=220_429, per_image=300),
    "lvis": Size(images=19_809, categories=1_203, boxes=244_707, per_image=300),
    "coco": Size(images=5_000, categories=80, boxes=36_781, per_image=100),
    "small": Size(images=200, categories=60, boxes=1_500, per_image=40),
}


@dataclass(frozen=True)
class Boxes:
    """The ground truth: image, category and box of each annotation, ordered by image."""

    images: np.ndarray
    categories: np.ndarray
    xywh: np.ndarray
    crowd: np.ndarray


def parent_lists(size: Size, rng: np.random.Generator) -> list[list[int]]:
    """The parents of each category: a few roots, one in ten with two parents."""
    roots = max(2, size.categories // 500)
    lists: list[list[int]] = [[] for _ in range(roots)]
    for node in range(roots, size.categories):
        count = 1 + (rng.random() < 0.1)
        lists.append(sorted({int(p) for p in (node * rng.random(count) ** 1.5)}))
    return lists


def make_boxes(size: Size, rng: np.random.Generator) -> Boxes:
    """Boxes of Zipf-distributed categories; every category and most images have one."""
    images = np.sort(rng.integers(0, size.images, size.boxes))
    weights = (1.0 + rng.permutation(size.categories)) ** -0.8
    drawn = rng.choice(size.categories, size.boxes - size.categories, p=weights / weights.sum())
    categories = rng.permutation(np.concatenate([np.arange(size.categories), drawn]))
    extent = np.exp(rng.normal(4.5, 1.0, (size.boxes, 2))).clip(6, [WIDTH, HEIGHT])
    corner = rng.random((size.boxes, 2)) * ([WIDTH, HEIGHT] - extent)
    xywh = np.concatenate([corner, extent], 1).round(2)
    return Boxes(images, categories, xywh, rng.random(size.boxes) < 0.01)


def make_detections(
    size: Size, truth: Boxes, parents: list[list[int]], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Detections of every image: some near its boxes, the rest anywhere, of many categories."""
    count = size.images * size.per_image
    images = np.repeat(np.arange(size.images), size.per_image)
    first = np.searchsorted(truth.images, np.arange(size.images + 1))
    boxes_of_image = np.diff(first)[images]
    near = (rng.random(count) < 0.15) & (boxes_of_image > 0)
    target = first[images] + (rng.random(count) * boxes_of_image).astype(np.int64)
    target = np.minimum(target, size.boxes - 1)
    categories = rng.integers(0, size.categories, count)
    quality = rng.random(count)
    same = near & (quality > 0.35)
    categories[same] = truth.categories[target[same]]
    above = np.array([row[0] if row else node for node, row in enumerate(parents)])
    to_parent = near & (quality > 0.25) & ~same
    categories[to_parent] = above[truth.categories[target[to_parent]]]
    extent = np.exp(rng.normal(4.5, 1.0, (count, 2))).clip(4, [WIDTH, HEIGHT])
    xywh = np.concatenate([rng.random((count, 2)) * ([WIDTH, HEIGHT] - extent), extent], 1)
    spread = (1.2 - quality[near])[:, None] * 0.25 * truth.xywh[target[near]][:, [2, 3, 2, 3]]
    xywh[near] = truth.xywh[target[near]] + spread * rng.normal(0, 1, (near.sum(), 4))
    xywh[:, 2:] = np.maximum(xywh[:, 2:], 1)
    score = rng.beta(1, 12, count)
    score[near] = (0.2 + 0.7 * quality[near]) * rng.beta(4, 2, near.sum())
    return {"image": images, "category": categories, "xywh": xywh, "score": score}


def annotation_file(size: Size, truth: Boxes, rng: np.random.Generator) -> dict[str, Any]:
    """The content of annotations.json, with V3Det's and LVIS' fields."""
    images = np.bincount(truth.categories, minlength=size.categories)
    frequency = np.array(["f", "c", "r"])[(images <= 100).astype(int) + (images <= 10)]
    novel = rng.random(size.categories) < 0.49
    lists = rng.integers(1, size.categories + 1, (size.images, 6)).tolist()
    return {
        "images": [
            {
                "id": i + 1,
                "file_name": f"images/n{i % 1000:08d}/{i}.jpg",
                "height": HEIGHT,
                "width": WIDTH,
                "neg_category_ids": row[:5],
                "not_exhaustive_category_ids": row[5:],
            }
            for i, row in enumerate(lists)
        ],
        "categories": [
            {"id": k + 1, "name": f"category {k}", "novel": bool(novel[k]), "frequency": f}
            for k, f in enumerate(frequency.tolist())
        ],
        "annotations": [
            {
                "id": index + 1,
                "image_id": image + 1,
                "category_id": category + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            for index, (image, category, box, crowd) in enumerate(
                zip(
                    truth.images.tolist(),
                    truth.categories.tolist(),
                    truth.xywh.tolist(),
                    truth.crowd.tolist(),
                    strict=True,
                )
            )
        ],
    }


def tree_file(parents: list[list[int]]) -> dict[str, Any]:
    """The content of category_tree.json with the tables that V3Det's tree has."""
    nodes = [f"n{k:06d}" for k in range(len(parents))]
    up = {nodes[k]: [nodes[p] for p in row] for k, row in enumerate(parents) if row}
    down: dict[str, list[str]] = {}
    for child, row in up.items():
        for parent in row:
            down.setdefault(parent, []).append(child)
    return {
        "categoryid2treeid": {str(k + 1): node for k, node in enumerate(nodes)},
        "id2name": {node: f"category {k}" for k, node in enumerate(nodes)},
        "father2child": down,
        "child2father": up,
    }


def write_results(path: Path, found: dict[str, np.ndarray]) -> None:
    """Writes the detections as a COCO results file."""
    pattern = (
        '{"image_id": %d, "category_id": %d, "bbox": [%.6f, %.6f, %.6f, %.6f], "score": %.12g}'
    )
    count = len(found["score"])
    with open(path, "w", encoding="ascii") as file:
        for start in tqdm(range(0, count, _ROWS_AT_ONCE), path.name, mininterval=1):
            rows = slice(start, start + _ROWS_AT_ONCE)
            columns = (
                (found["image"][rows] + 1).tolist(),
                (found["category"][rows] + 1).tolist(),
                *found["xywh"][rows].T.tolist(),
                found["score"][rows].tolist(),
            )
            text = ", ".join(map(pattern.__mod__, zip(*columns, strict=True)))
            file.write(("[" if start == 0 else ", ") + text)
        file.write("]")


def make_set(folder: Path, name: str, seed: int) -> Path:
    """Makes one set, whole or not at all; returns its folder."""
    target = folder / name
    parameters = {"size": name, "seed": seed, "version": 1}
    marker = target / "parameters.json"
    if marker.is_file() and json.loads(marker.read_text()) == parameters:
        return target
    if target.exists():
        raise FileExistsError(f"{target} holds something else; remove it or name another folder")
    partial = folder / f".{name}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        size, rng = SIZES[name], np.random.default_rng(seed)
        parents = parent_lists(size, rng)
        truth = make_boxes(size, rng)
        content = annotation_file(size, truth, rng)
        (partial / "annotations.json").write_text(json.dumps(content))
        (partial / "category_tree.json").write_text(json.dumps(tree_file(parents)))
        write_results(partial / "results.json", make_detections(size, truth, parents, rng))
        (partial / "parameters.json").write_text(json.dumps(parameters))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and makes the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for name in given.size:
        print(make_set(given.output, name, given.seed))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FileExistsError as error:
        sys.exit(str(error))

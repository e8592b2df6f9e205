"""Writes annotation files of V3Det's size and field layout, made up from a seed.

Example:
    python projects_tools/benchmark.py synthetic_v3det --output /data/synthetic

The result has V3Det's train annotations and category tree, without images. It serves the data
benchmark; nothing can be learnt from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cqdino_d2.files import write_atomically

_WORDS = "amber basin cedar delta ember fjord glade heron inlet jetty knoll lagoon marsh".split()
_CHUNK = 20_000  # rows that are made at a time


@dataclass(frozen=True)
class SyntheticSize:
    """How many rows there are; the default is V3Det train.

    Attributes:
        images: number of images that are listed.
        boxes: annotations, spread unevenly over images and categories.
        categories: with ids 1, 2, ...
        virtual_nodes: nodes of the tree that are no category.
    """

    images: int = 183_354
    boxes: int = 1_357_377
    categories: int = 13_204
    virtual_nodes: int = 1_500


def _sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(_WORDS[i] for i in rng.integers(0, len(_WORDS), words)).capitalize() + "."


def _category_rows(size: SyntheticSize, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Category objects with V3Det's fields; about one name in 300 is there twice."""
    numbers = [i - len(_WORDS) * (i % 300 == 299) for i in range(size.categories)]
    names = [f"{_WORDS[number % len(_WORDS)]} {number}" for number in numbers]
    return [
        {
            "id": index + 1,
            "name": names[index],
            "name_zh": "合成类别",
            "cat_info": _sentence(rng, 20),
            "cat_info_gpt": _sentence(rng, 60),
            "cat_info_gpt4": _sentence(rng, 60),
            "cat_info_gpt4v": _sentence(rng, 60),
            "novel": bool(index % 2),
            "exemplar_image": f"exemplar_images/{index + 1}.jpg",
        }
        for index in range(size.categories)
    ]


def _image_rows(size: SyntheticSize, shapes: np.ndarray) -> Iterator[str]:
    for index, (height, width) in enumerate(shapes.tolist(), 1):
        name = f"images/n{10_000_000 + index % 13_000:08d}/{index % 97}_{index}_{index * 7919}.jpg"
        yield f'{{"id": {index}, "file_name": "{name}", "height": {height}, "width": {width}}}'


def _annotation_rows(
    size: SyntheticSize, shapes: np.ndarray, rng: np.random.Generator
) -> Iterator[str]:
    """Boxes of falling frequency per category; images in the order of their rows."""
    image_rows = np.sort((size.images * rng.random(size.boxes) ** 1.5).astype(np.int64))
    shuffled = rng.permutation(size.categories)
    ranks = (size.categories ** rng.random(size.boxes)).astype(np.int64) - 1
    category_ids = shuffled[np.clip(ranks, 0, size.categories - 1)] + 1
    for start in range(0, size.boxes, _CHUNK):
        rows = image_rows[start : start + _CHUNK]
        heights, widths = shapes[rows].T
        x, y = rng.random(len(rows)) * widths * 0.9, rng.random(len(rows)) * heights * 0.9
        w, h = (widths - x) * rng.random(len(rows)), (heights - y) * rng.random(len(rows))
        boxes = np.round(np.stack([x, y, w + 1e-2, h + 1e-2], axis=1), 4).tolist()
        categories = category_ids[start : start + _CHUNK].tolist()
        for index, (row, category, box) in enumerate(zip(rows, categories, boxes, strict=True)):
            yield (
                f'{{"id": {start + index + 1}, "image_id": {row + 1}, "category_id": {category}, '
                f'"bbox": {box}, "area": {box[2] * box[3]:.4f}, "iscrowd": 0}}'
            )


def _write_rows(file: IO[bytes], key: str, rows: Iterator[str]) -> None:
    file.write(f'"{key}": ['.encode())
    separator = ""
    for row in rows:
        file.write(f"{separator}{row}".encode())
        separator = ", "
    file.write(b"]")


def category_tree(size: SyntheticSize, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """A tree JSON with V3Det's keys, about eight levels deep; one node in 30 has two parents."""
    count = size.categories + size.virtual_nodes
    names = [f"n{index:08d}" for index in range(count)]
    parents_of: dict[str, list[str]] = {}
    for node in range(1, count):
        wanted = 1 + int(rng.random() < 1 / 30)
        drawn = rng.integers(node // 8, max(node // 3, 1) + (node > 2), wanted).tolist()
        parents_of[names[node]] = [names[parent] for parent in dict.fromkeys(drawn)]
    children_of: dict[str, list[str]] = {}
    for child, parents in parents_of.items():
        for parent in parents:
            children_of.setdefault(parent, []).append(child)
    nodes = rng.permutation(count)[: size.categories].tolist()
    return {
        "categoryid2treeid": {str(i): names[node] for i, node in enumerate(nodes, 1)},
        "id2name": {name: f"node {name}" for name in names},
        "father2child": children_of,
        "child2father": parents_of,
    }


def write_synthetic_v3det(
    root: Path, size: SyntheticSize | None = None, seed: int = 0
) -> tuple[Path, Path]:
    """Writes annotations and tree below ``root/V3Det``, as V3Det names them.

    Args:
        root: folder of the datasets.
        size: numbers of rows; by default V3Det's.
        seed: decides every value.

    Returns:
        The annotation file and the tree file.
    """
    size = size or SyntheticSize()
    folder = root / "V3Det/annotations"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0])
    categories = _category_rows(size, rng)
    shapes = rng.integers(240, 1400, (size.images, 2))

    def write(file: IO[bytes]) -> None:
        file.write(b"{")
        _write_rows(file, "images", _image_rows(size, shapes))
        file.write(b", ")
        _write_rows(file, "categories", (json.dumps(row, ensure_ascii=False) for row in categories))
        file.write(b", ")
        _write_rows(file, "annotations", _annotation_rows(size, shapes, rng))
        file.write(b"}")

    annotations = folder / "v3det_2023_v1_train.json"
    write_atomically(annotations, write)
    tree = folder / "v3det_2023_v1_category_tree.json"
    text = json.dumps(category_tree(size, np.random.default_rng([seed, 1])))
    write_atomically(tree, lambda file: file.write(text.encode()))
    return annotations, tree


def main(arguments: list[str] | None = None) -> int:
    """Writes the files; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of the datasets")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for path in write_synthetic_v3det(given.output, seed=given.seed):
        print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Figures of a dataset: a contact sheet of samples and the category frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ..files import write_atomically
from ..structures import Vocabulary
from .category_tree import CategoryTree
from .drawing import LabelledBox, draw_boxes, short

_COLUMNS = 4
_LABEL_LENGTH = 24
_CAPTION_LENGTH = 54
_SHOWN_SIDE = 480


def _draw_sample(
    axes: plt.Axes, sample: Mapping[str, Any], vocabulary: Vocabulary, tree: CategoryTree
) -> None:
    """A mapped sample (RGB) with its boxes; categories on one box share its label."""
    image = sample["image"].permute(1, 2, 0).numpy()
    labels: dict[tuple[float, ...], list[int]] = {}
    instances = sample["instances"]
    names = _names_of(sample, vocabulary)
    for box, category in zip(
        instances.gt_boxes.tensor.tolist(), instances.gt_classes.tolist(), strict=True
    ):
        labels.setdefault(tuple(box), []).append(category)
    objects = [
        LabelledBox(
            box,
            short(" + ".join(names[c] for c in categories), _LABEL_LENGTH),
            tree.colour(categories[0] % len(vocabulary)),
        )
        for box, categories in labels.items()
    ]
    axes.imshow(draw_boxes(image, objects, min_side=_SHOWN_SIDE))
    height, width = image.shape[:2]
    title = f"{sample.get('image_id')}   {width} x {height}   {len(instances)} boxes"
    if "prompt" in sample:
        title += f"\n{short(sample['prompt'].caption, _CAPTION_LENGTH)}"
    axes.set_title(title, fontsize=6)


def _names_of(sample: Mapping[str, Any], vocabulary: Vocabulary) -> Mapping[int, str]:
    """What the sample's prompt calls each thing, else the names of the vocabulary."""
    prompt = sample.get("prompt")
    if prompt is None:
        return dict(enumerate(vocabulary.names))
    return {thing: prompt.words(place) for place, thing in enumerate(prompt.phrase_ids)}


def draw_contact_sheet(
    samples: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, path: Path
) -> None:
    """Draws training samples as the detector gets them.

    Args:
        samples: what the mapper returned.
        vocabulary: of the V categories.
        path: PNG file to write.
    """
    rows = -(-len(samples) // _COLUMNS)
    tree = CategoryTree(vocabulary)
    figure, grid = plt.subplots(rows, _COLUMNS, figsize=(12, 3.1 * rows), squeeze=False, dpi=130)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, sample in zip(grid.flat, samples, strict=False):
        _draw_sample(axes, sample, vocabulary, tree)
    figure.tight_layout()
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    plt.close(figure)


def draw_frequencies(counts: np.ndarray, path: Path) -> None:
    """Draws how many images show each category, and how many categories are so frequent.

    Args:
        counts: (V,) training images per category.
        path: PNG file to write.
    """
    figure, (ranks, histogram) = plt.subplots(1, 2, figsize=(11, 4), dpi=130)
    ranks.plot(np.arange(1, len(counts) + 1), np.sort(counts)[::-1], lw=1.5)
    ranks.set_yscale("symlog", linthresh=1)
    ranks.set_ylim(bottom=0)
    ranks.set_xlabel("rank of the category")
    ranks.set_ylabel("training images")
    ranks.set_title(f"{len(counts):,} categories, {int((counts == 0).sum()):,} without an image")
    edges = np.concatenate([[0], 2.0 ** np.arange(int(np.log2(counts.max() + 1)) + 2)])
    found, _ = np.histogram(counts, edges)
    labels = [
        f"{int(a)}" if b - a <= 1 else f"{int(a)}-{int(b) - 1}"
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    histogram.bar(labels, found)
    histogram.bar_label(histogram.containers[0], fontsize=7)
    histogram.tick_params(axis="x", rotation=60, labelsize=7)
    histogram.set_xlabel("training images")
    histogram.set_ylabel("categories")
    histogram.yaxis.get_major_locator().set_params(integer=True)
    for axes in (ranks, histogram):
        axes.grid(alpha=0.3, axis="y")
        axes.set_axisbelow(True)
    figure.tight_layout()
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    plt.close(figure)

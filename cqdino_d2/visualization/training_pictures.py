"""Figures: predictions next to the ground truth, and the loss curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from detectron2.engine import DefaultPredictor

from ..files import write_atomically
from ..files.images import read_image
from ..structures import Vocabulary
from .defaults import SAME_OBJECT_IOU
from .drawing import LabelledBox, draw_boxes, short
from .result_view import ResultView, ViewSettings

SHOWN_SCORE = 0.3
_SHOWN_SIDE = 384  # pixels: about what a picture gets on the sheet


def _draw_truth(
    image_rgb: np.ndarray, annotations: Sequence[Mapping[str, Any]], view: ResultView
) -> np.ndarray:
    objects = []
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        vocab_id = annotation["category_id"]
        label = short(view.vocabulary.names[vocab_id])
        box = (x, y, x + width, y + height)
        objects.append(LabelledBox(box, label, view.tree.colour(vocab_id)))
    return draw_boxes(image_rgb, objects, min_side=_SHOWN_SIDE)


def draw_comparison(
    *,
    predictor: DefaultPredictor,
    vocabulary: Vocabulary,
    records: Sequence[Mapping[str, Any]],
    path: Path,
) -> None:
    """Draws each record twice, with its true boxes and with those predicted above 0.3."""
    view = ResultView(vocabulary)
    columns = min(3, len(records))
    rows = -(-len(records) // columns)
    figure, grid = plt.subplots(
        rows, 2 * columns, figsize=(5.2 * columns, 2.9 * rows), squeeze=False, dpi=150
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for index, record in enumerate(records):
        row, column = divmod(index, columns)
        truth_axes, prediction_axes = grid[row, 2 * column : 2 * column + 2]
        image_bgr = read_image(record["file_name"], "BGR")
        image_rgb = image_bgr[:, :, ::-1]
        truth_axes.imshow(_draw_truth(image_rgb, record["annotations"], view))
        truth_axes.set_title("ground truth", fontsize=7)
        found = view.detections(
            predictor(image_bgr), ViewSettings(SHOWN_SCORE, same_object_iou=SAME_OBJECT_IOU)
        )
        prediction_axes.imshow(view.draw(image_rgb, found, min_side=_SHOWN_SIDE))
        prediction_axes.set_title("prediction (score in %)", fontsize=7)
    figure.suptitle("Held-out images. Artwork: Twemoji, CC-BY 4.0", fontsize=8)
    figure.tight_layout()
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    plt.close(figure)


def draw_loss_curve(metrics_file: Path, path: Path) -> None:
    """Draws the losses that a training wrote, a JSON dict per line, on a logarithmic axis."""
    rows = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    rows = [row for row in rows if "total_loss" in row]
    shown = ["total_loss", "loss_category", "loss_class", "loss_l1", "loss_giou"]
    figure, axes = plt.subplots(figsize=(7, 4), dpi=130)
    for name in shown:
        values = [row.get(name, np.nan) for row in rows]
        axes.plot([row["iteration"] for row in rows], values, label=name.replace("_", " "), lw=1.3)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("weighted loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    write_atomically(path, lambda file: figure.savefig(file, format="png"))
    plt.close(figure)

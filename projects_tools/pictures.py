"""Pictures for people: predictions beside the ground truth, and the loss curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor

SHOWN_SCORE = 0.3
_COLOURS = plt.get_cmap("tab20").colors


def _draw_boxes(
    axes: plt.Axes,
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    labels: Sequence[str],
    classes: Sequence[int],
) -> None:
    """Shows an RGB image with labelled boxes; a category keeps its colour."""
    axes.imshow(image, interpolation="nearest")
    for (x0, y0, x1, y1), label, category in zip(boxes_xyxy, labels, classes, strict=True):
        colour = _COLOURS[category % len(_COLOURS)]
        frame = plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, lw=1.5)
        axes.add_patch(frame)
        axes.text(
            max(x0, 0),
            max(y0 - 1.5, 4),
            label,
            fontsize=5.5,
            color="black",
            va="bottom",
            bbox=dict(facecolor=colour, edgecolor="none", pad=0.6, alpha=0.85),
            clip_on=True,
        )
    axes.set_axis_off()


def _short(name: str, length: int = 20) -> str:
    name = name.lower()
    return name if len(name) <= length else name[: length - 1] + "…"


def draw_comparison(
    *, predictor: DefaultPredictor, records: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Draws each record twice, with its true boxes and with those predicted above 0.3."""
    names = predictor.metadata.thing_classes
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
        found = predictor(image_bgr)["instances"].to("cpu")
        found = found[found.scores > SHOWN_SCORE]
        truth = record["annotations"]
        boxes = np.asarray([a["bbox"] for a in truth], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = [a["category_id"] for a in truth]
        image = image_bgr[:, :, ::-1]
        _draw_boxes(truth_axes, image, boxes, [_short(names[c]) for c in classes], classes)
        truth_axes.set_title("ground truth", fontsize=7)
        found_classes = found.pred_classes.tolist()
        labels = [
            f"{_short(names[c])} {100 * s:.0f}"
            for c, s in zip(found_classes, found.scores.tolist(), strict=True)
        ]
        _draw_boxes(prediction_axes, image, found.pred_boxes.tensor.numpy(), labels, found_classes)
        prediction_axes.set_title("prediction (score in %)", fontsize=7)
    figure.suptitle("Held-out pictures. Artwork: Twemoji, CC-BY 4.0", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
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
    figure.savefig(path)
    plt.close(figure)

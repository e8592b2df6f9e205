"""COCO's box figures at any number of detections per image."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .detections import Detections


def load_ground_truth(path: str | Path) -> COCO:
    """Reads a COCO-format annotation file; absent ``iscrowd`` and ``area`` are filled in.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no annotation file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not an annotation file: {error}") from error
    if missing := {"images", "annotations", "categories"} - set(content):
        raise ValueError(f"{path} is not an annotation file: it lacks {sorted(missing)}")
    for annotation in content["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return _indexed(content)


def coco_box_figures(
    ground_truth: COCO, detections: Detections, category_ids: np.ndarray, max_dets: int
) -> dict[str, float]:
    """AP and AR over IoU 0.5..0.95 with up to ``max_dets`` detections per image and category.

    Args:
        ground_truth: the annotations.
        detections: all predictions; those beyond ``max_dets`` of an (image, category) are cut.
        category_ids: (V,) the data set's id of each vocab_id.
        max_dets: for all figures. (pycocotools' own summary wires AP to 100 and gives -1
            without it, so the figures are read from its precision array here.)

    Returns:
        AP, AP50, AP75, APs, APm, APl, AR@max_dets in 0..100; nan where no ground truth is.
    """
    evaluation = COCOeval(ground_truth, _as_results(ground_truth, detections, category_ids), "bbox")
    evaluation.params.maxDets = [max_dets]
    with _silence():
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU, recall, category, area, maxDets)
    recall = evaluation.eval["recall"]  # (IoU, category, area, maxDets)
    areas = evaluation.params.areaRngLbl
    whole = areas.index("all")
    figures = {
        "AP": precision[:, :, :, whole],
        "AP50": precision[0, :, :, whole],
        "AP75": precision[5, :, :, whole],
    }
    for name in ("small", "medium", "large"):
        figures[f"AP{name[0]}"] = precision[:, :, :, areas.index(name)]
    figures[f"AR@{max_dets}"] = recall[:, :, whole]
    return {name: _mean_percent(values) for name, values in figures.items()}


def _mean_percent(values: np.ndarray) -> float:
    """Mean of what was measured; -1 stands for categories without ground truth."""
    measured = values[values > -1]
    return float(100 * measured.mean()) if measured.size else float("nan")


def _as_results(ground_truth: COCO, detections: Detections, category_ids: np.ndarray) -> COCO:
    """The detections as pycocotools wants them."""
    boxes = detections.boxes_xywh_abs()
    annotations = [
        {
            "id": index + 1,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for index, (image_id, category_id, box, score) in enumerate(
            zip(
                detections.image_ids.tolist(),
                category_ids[detections.vocab_ids].tolist(),
                boxes.tolist(),
                detections.scores.tolist(),
                strict=True,
            )
        )
    ]
    dataset = ground_truth.dataset
    return _indexed(
        {
            "images": dataset["images"],
            "categories": dataset["categories"],
            "annotations": annotations,
        }
    )


def _indexed(content: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = content
    with _silence():
        coco.createIndex()
    return coco


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drops the progress that pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield

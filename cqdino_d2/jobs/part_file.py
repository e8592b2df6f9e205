"""The results of a part, as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import require_package, write_atomically
from ..structures import one_line


@dataclass(frozen=True)
class ImageRow:
    """What was found in an image.

    Attributes:
        image: its name below the job's folder.
        height, width: in pixels; 0 where it could not be read.
        labels: (N) names of what was found, best first.
        category_ids: (N) the dataset's ids of these; by words, their places in the prompt.
        scores: (N,) in 0..1.
        boxes_xyxy_abs: (N, 4) in pixels.
        error: why it could not be done, or None.
    """

    image: str
    height: int = 0
    width: int = 0
    labels: Sequence[str] = ()
    category_ids: Sequence[int] = ()
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    boxes_xyxy_abs: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    error: str | None = None


def write_part(path: Path, rows: Sequence[ImageRow]) -> None:
    """Writes a row for each image, whole or not at all.

    Raises:
        FileWriteError: the file cannot be written.
        ModuleNotFoundError: pyarrow is not installed.
    """
    arrow = require_package("pyarrow", "Parquet", ("pyarrow",))
    parquet = require_package("pyarrow.parquet", "Parquet", ("pyarrow",))
    columns: dict[str, Any] = {
        "image": arrow.array([row.image for row in rows], arrow.string()),
        "height": arrow.array([row.height for row in rows], arrow.int32()),
        "width": arrow.array([row.width for row in rows], arrow.int32()),
        "labels": arrow.array([list(row.labels) for row in rows], arrow.list_(arrow.string())),
        "category_ids": arrow.array(
            [list(row.category_ids) for row in rows], arrow.list_(arrow.int64())
        ),
        "scores": arrow.array([row.scores for row in rows], arrow.list_(arrow.float32())),
        "boxes_xyxy": arrow.array(
            [list(row.boxes_xyxy_abs) for row in rows],
            arrow.list_(arrow.list_(arrow.float32(), 4)),
        ),
        "error": arrow.array([row.error and one_line(row.error) for row in rows], arrow.string()),
    }
    table = arrow.table(columns)
    write_atomically(path, lambda file: parquet.write_table(table, file))


def failed_rows(path: Path) -> int:
    """How many images of a part could not be done."""
    parquet = require_package("pyarrow.parquet", "Parquet", ("pyarrow",))
    errors = parquet.read_table(path, columns=["error"]).column("error")
    return len(errors) - errors.null_count

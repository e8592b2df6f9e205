"""Results files (JSON, npz, Parquet) to and from columns."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np

from ..annotations.ids import UNKNOWN, Id, as_id, id_array, rank_in, spelling
from ..files import write_atomically
from .columns import Detections, GroundTruth
from .memory import require_memory
from .result_json import RawResults, read_results_json

_LOGGER = logging.getLogger(__name__)
_COLUMNS = ("image_id", "category_id", "bbox", "score")
_ID_TYPES = (int, float, str)
_ROWS_AT_ONCE = 200_000


def load_results(path: str | Path, truth: GroundTruth) -> Detections:
    """Reads the detections of any detector.

    Args:
        path: a COCO results file (.json, .json.gz), or columns image_id, category_id,
            bbox (N, 4) and score (.npz, .parquet).
        truth: the annotations of the same dataset.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a broken one, one of another dataset, or numbers that
            are not finite. Unknown categories and negative sizes are warned about, as the
            original evaluations let them pass.
        MemoryError: they do not fit into memory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such results file: {path}")
    kinds = [kind for kind in _READERS if path.name.lower().endswith(kind)]
    if not kinds:
        raise ValueError(f"{path}: expected a results file {', '.join(_READERS)}")
    read, memory_per_byte = _READERS[kinds[0]]
    require_memory(memory_per_byte * path.stat().st_size, str(path))
    return to_detections(read(path), truth, str(path))


def to_detections(parts: Iterable[RawResults], truth: GroundTruth, source: str) -> Detections:
    """Checks records and finds their images and categories.

    Args:
        parts: records in their order.
        truth: the annotations of the same dataset.
        source: what to call them in messages.

    Raises:
        ValueError: images or all categories are unknown, or numbers are not finite.
    """
    checks, table = _Checks(source), _Table()
    for part in parts:
        images = rank_in(truth.image_ids, part.image_ids)
        categories = rank_in(truth.category_ids, part.category_ids)
        checks.look_at(part, images, categories)
        table.append(Detections(images, categories, part.boxes_xywh_abs, part.scores))
    checks.conclude()
    return table.detections()


class _Table:
    """Columns that grow. They are made far too long: memory is used only where it is written."""

    _SPARE = 16

    def __init__(self) -> None:
        self._columns: list[np.ndarray] = []
        self._count = 0

    def append(self, part: Detections) -> None:
        """Adds rows at the end."""
        added = [getattr(part, field.name) for field in fields(part)]
        end = self._count + len(part)
        if not self._columns:
            self._columns = [values[:0] for values in added]
        if end > len(self._columns[0]):
            self._grow(self._SPARE * end)
        for column, values in zip(self._columns, added, strict=True):
            column[self._count : end] = values
        self._count = end

    def _grow(self, length: int) -> None:
        for place, old in enumerate(self._columns):
            column = np.empty((length, *old.shape[1:]), old.dtype)
            column[: self._count] = old[: self._count]
            self._columns[place] = column

    def detections(self) -> Detections:
        """All rows."""
        if not self._columns:
            return Detections.empty()
        return Detections(*(column[: self._count] for column in self._columns))


class _Checks:
    """Counts what is wrong over all parts."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows = 0
        self.counts = dict.fromkeys(("image", "category", "finite", "size"), 0)
        self.examples: dict[str, list[int]] = {name: [] for name in self.counts}

    def _note(self, kind: str, bad: np.ndarray, values: np.ndarray) -> None:
        if not bad.any():
            return
        self.counts[kind] += int(bad.sum())
        seen = self.examples[kind]
        if len(seen) < 5:
            fresh = [v for v in dict.fromkeys(values[bad].tolist()) if v not in seen]
            seen += fresh[: 5 - len(seen)]

    def look_at(self, part: RawResults, images: np.ndarray, categories: np.ndarray) -> None:
        """Notes what is wrong in a part."""
        rows = np.arange(self.rows, self.rows + len(images))
        self._note("image", images == UNKNOWN, part.image_ids)
        self._note("category", categories == UNKNOWN, part.category_ids)
        boxes, scores = np.isfinite(part.boxes_xywh_abs), np.isfinite(part.scores)
        if not (boxes.all() and scores.all()):  # row by row it takes several times as long
            self._note("finite", ~(boxes.all(1) & scores), rows)
        widths, heights = part.boxes_xywh_abs[:, 2:].T
        self._note("size", (widths < 0) | (heights < 0), rows)
        self.rows += len(images)

    def conclude(self) -> None:
        """Raises or warns."""
        counts, examples, source = self.counts, self.examples, self.source
        if counts["image"]:
            raise ValueError(
                f"{source}: {counts['image']} of {self.rows} detections are of images that the "
                f"annotations do not have (ids {examples['image']} ...); are these the results of "
                "another dataset?"
            )
        if counts["finite"]:
            raise ValueError(
                f"{source}: {counts['finite']} of {self.rows} detections have boxes or scores that "
                f"are not finite numbers (records {examples['finite']} ..., counted from 0)"
            )
        if self.rows and counts["category"] == self.rows:
            raise ValueError(
                f"{source}: all {self.rows} detections are of categories that the annotations do "
                f"not have (ids {examples['category']} ...); are these the results of another "
                "dataset?"
            )
        if not self.rows:
            _LOGGER.warning("%s has no detection", source)
        if counts["category"]:
            _LOGGER.warning(
                "%s: %d of %d detections are of categories that the annotations do not have (ids "
                "%s ...); they do not count",
                source,
                counts["category"],
                self.rows,
                examples["category"],
            )
        if counts["size"]:
            _LOGGER.warning(
                "%s: %d of %d boxes have a negative width or height (records %s ..., counted from "
                "0); they match nothing",
                source,
                counts["size"],
                self.rows,
                examples["size"],
            )


def _read_npz(path: Path) -> Iterator[RawResults]:
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as npz: {error}") from error
    yield _raw(columns, path)


def _read_parquet(path: Path) -> Iterator[RawResults]:
    parquet = _pyarrow_parquet()
    try:
        file = parquet.ParquetFile(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    for batch in file.iter_batches(_ROWS_AT_ONCE):
        columns = {}
        for name in batch.schema.names:
            column = batch.column(name)
            flat = column.flatten() if name == "bbox" else column
            columns[name] = flat.to_numpy(zero_copy_only=False)
        if "bbox" in columns and len(columns["bbox"]) == 4 * len(batch):
            columns["bbox"] = columns["bbox"].reshape(-1, 4)
        yield _raw(columns, path)


def _pyarrow_parquet() -> ModuleType:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("Parquet files need the package pyarrow (pip install pyarrow)") from error
    return parquet


def _raw(columns: dict[str, np.ndarray], path: Path) -> RawResults:
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise ValueError(f"{path} lacks the columns {missing}; it has {sorted(columns)}")
    ids, categories, boxes, scores = (columns[name] for name in _COLUMNS)
    count = len(scores)
    if not (ids.shape == categories.shape == scores.shape and boxes.shape == (count, 4)):
        shapes = {name: columns[name].shape for name in _COLUMNS}
        raise ValueError(f"{path}: the columns' shapes do not fit: {shapes}")
    try:
        ids, categories = _ids(ids), _ids(categories)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from error
    real = np.float32 if boxes.dtype == scores.dtype == np.float32 else np.float64
    return RawResults(ids, categories, boxes.astype(real), scores.astype(real))


def _ids(column: np.ndarray) -> np.ndarray:
    """Ids of a column of numbers or texts; see `ids`."""
    if column.dtype.kind == "i":
        return column.astype(np.int64)
    values = column.tolist()
    strange = (one for one in values if isinstance(one, bool) or not isinstance(one, _ID_TYPES))
    if (wrong := next(strange, None)) is not None:
        raise ValueError(f"ids must be whole numbers or texts, got {wrong!r}")
    return id_array([as_id(one) for one in values])


def _storable(ids: np.ndarray) -> np.ndarray:
    """Ids as NumPy and Parquet can store them: numbers, or texts where one is or where they must.

    Large numbers are stored unsigned where they fit, else as the texts that spell them.
    """
    if ids.dtype != object:
        return ids
    values: list[Id] = ids.tolist()
    if all(isinstance(one, int) and 0 <= one < 2**64 for one in values):
        return np.array(values, dtype=np.uint64)
    return np.array([spelling(one) for one in values], dtype=np.str_)


# of each kind how it is read, and how much memory a byte of the file takes
_READERS: dict[str, tuple[Callable[[Path], Iterable[RawResults]], float]] = {
    ".json": (read_results_json, 0.5),
    ".json.gz": (read_results_json, 10.0),
    ".npz": (_read_npz, 2.0),
    ".parquet": (_read_parquet, 2.0),
}


def save_results_json(path: str | Path, detections: Detections, truth: GroundTruth) -> None:
    """Writes a COCO results file; reading it gives the same numbers, bit for bit."""

    def write(file: IO[bytes]) -> None:
        for start in range(0, len(detections), _ROWS_AT_ONCE):
            part = detections.take(slice(start, start + _ROWS_AT_ONCE))
            rows = zip(
                truth.image_ids[part.images].tolist(),
                truth.category_ids[part.categories].tolist(),
                part.boxes_xywh_abs.astype(np.float64).tolist(),
                part.scores.astype(np.float64).tolist(),
                strict=True,
            )
            text = json.dumps([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
            file.write((b", " if start else b"[") + text[1:-1].encode())
        file.write(b"]" if len(detections) else b"[]")

    write_atomically(path, write)


def save_results_npz(path: str | Path, detections: Detections, truth: GroundTruth) -> None:
    """Writes the columns image_id, category_id, bbox, score; 28 bytes a detection in float32."""
    columns = {
        "image_id": _storable(truth.image_ids[detections.images]),
        "category_id": _storable(truth.category_ids[detections.categories]),
        "bbox": detections.boxes_xywh_abs,
        "score": detections.scores,
    }
    for name in ("image_id", "category_id"):
        ids = columns[name]
        if ids.dtype == np.int64 and len(ids) and np.abs(ids).max() < 2**31:
            columns[name] = ids.astype(np.int32)
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def save_results_parquet(path: str | Path, detections: Detections, truth: GroundTruth) -> None:
    """Writes the same columns as a Parquet file.

    Raises:
        ValueError: pyarrow is not installed.
    """
    parquet = _pyarrow_parquet()
    import pyarrow

    boxes = pyarrow.array(detections.boxes_xywh_abs.reshape(-1))
    table = pyarrow.table(
        {
            "image_id": _storable(truth.image_ids[detections.images]),
            "category_id": _storable(truth.category_ids[detections.categories]),
            "bbox": pyarrow.FixedSizeListArray.from_arrays(boxes, 4),
            "score": detections.scores,
        }
    )
    write_atomically(path, lambda file: parquet.write_table(table, file))

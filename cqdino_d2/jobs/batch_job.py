"""A job: the images of a folder or list in parts, a Parquet file of results for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import Instances

from ..files import inside, read_image, reason_of, require_package, write_text
from ..files.text_lines import read_lines
from ..prediction.loading import AnyPredictor
from ..structures import Vocabulary
from ..structures.one_by_one import results_or_errors
from .image_list import list_images
from .job_settings import JobSettings, compare_record, write_record
from .part_file import ImageRow, failed_rows, write_part

_NOT_DONE = (ValueError, OSError, RuntimeError, MemoryError)  # RuntimeError: torch's, of memory
_READERS = 4  # threads that decode the next batch


@dataclass(frozen=True)
class PartSummary:
    """What became of a part.

    Attributes:
        part: its number.
        images: that were looked at.
        boxes: that were found.
        failed: images that could not be done.
    """

    part: int
    images: int
    boxes: int
    failed: int


class BatchJob:
    """The images of one job and their results, in a folder of its own.

    The folder has ``images.txt`` (written once: images that come later do not shift the parts),
    ``job.json`` and ``part-00000.parquet``, ...; a part is there
    whole or not at all, so that a job which was stopped does what is missing. Parts may be done in
    any order, by several processes.

    Args:
        settings: what is predicted.
        source: folder of images, or a text file with names below its own folder.
        output: the folder of the results.

    Attributes:
        names: of all images.
        num_parts: how many parts they make.

    Raises:
        FileNotFoundError: no such source.
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: names that cannot be, or results of another job in the folder.
    """

    def __init__(self, settings: JobSettings, source: Path, output: Path) -> None:
        require_package("pyarrow.parquet", "Parquet", ("pyarrow",))
        self.settings, self.output = settings, output
        self.root = source if source.is_dir() else source.parent
        self._list, self._record_file = output / "images.txt", output / "job.json"
        self.names = read_lines(self._list) if self._list.is_file() else list_images(source)
        self.num_parts = -(-len(self.names) // settings.part_size)
        self._record = settings.record() | {"input": str(source)}
        compare_record(self._record_file, self._record)

    def claim(self) -> None:
        """Makes the folder this job's; to be called once its model is known to be usable.

        Raises:
            FileWriteError: the folder cannot be written.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        if not self._record_file.is_file():
            write_record(self._record_file, self._record)
        if not self._list.is_file():
            write_text(self._list, "\n".join(self.names) + "\n")

    def part_path(self, part: int) -> Path:
        """Where the results of a part are."""
        return self.output / f"part-{part:05d}.parquet"

    def num_failed(self) -> int:
        """Images in the parts that are done which could not be."""
        paths = map(self.part_path, range(self.num_parts))
        return sum(failed_rows(path) for path in paths if path.is_file())

    def forget_failed(self) -> None:
        """Removes the parts with images that could not be done, so that they are done anew."""
        for part in range(self.num_parts):
            path = self.part_path(part)
            if path.is_file() and failed_rows(path):
                path.unlink()

    def missing_parts(self) -> list[int]:
        """Parts that are not done."""
        return [part for part in range(self.num_parts) if not self.part_path(part).is_file()]

    def do_part(self, part: int, predictor: AnyPredictor) -> PartSummary:
        """Predicts the images of a part and writes its file.

        An image that cannot be done has the reason in its row.

        Args:
            part: its number.
            predictor: as `JobSettings.load` makes it.

        Raises:
            FileWriteError: the file cannot be written.
        """
        size = self.settings.part_size
        names = self.names[part * size : (part + 1) * size]
        rows = [row for batch in self._batches(names) for row in self._rows_of(batch, predictor)]
        write_part(self.part_path(part), rows)
        return PartSummary(
            part,
            images=len(rows),
            boxes=sum(len(row.scores) for row in rows),
            failed=sum(row.error is not None for row in rows),
        )

    def _batches(self, names: Sequence[str]) -> Iterator[list[tuple[str, Future[np.ndarray]]]]:
        """Names with their images; the next batch is decoded while the last is looked at."""
        size = self.settings.batch_size
        with ThreadPoolExecutor(_READERS) as readers:
            waiting: list[list[tuple[str, Future[np.ndarray]]]] = []
            for start in range(0, len(names), size):
                batch = [(n, readers.submit(self._read, n)) for n in names[start : start + size]]
                waiting.append(batch)
                if len(waiting) > 1:
                    yield waiting.pop(0)
            yield from waiting

    def _read(self, name: str) -> np.ndarray:
        return read_image(inside(self.root, name), "BGR")

    def _rows_of(
        self, batch: Sequence[tuple[str, Future[np.ndarray]]], predictor: AnyPredictor
    ) -> list[ImageRow]:
        images: dict[str, np.ndarray] = {}
        rows: dict[str, ImageRow] = {}
        for name, reading in batch:
            try:
                images[name] = reading.result()
            except OSError as error:
                rows[name] = ImageRow(name, error=reason_of(error))
        rows |= self._found(images, predictor)
        return [rows[name] for name, _ in batch]

    def _found(self, images: dict[str, np.ndarray], predictor: AnyPredictor) -> dict[str, ImageRow]:
        """Rows of images that could be read."""
        results = results_or_errors(predictor.batch, list(images.values()), _NOT_DONE)
        return {
            name: ImageRow(name, error=reason_of(result))
            if isinstance(result, Exception)
            else self._row(name, image, result, predictor.vocabulary)
            for (name, image), result in zip(images.items(), results, strict=True)
        }

    def _row(
        self, name: str, image: np.ndarray, result: dict[str, Any], vocabulary: Vocabulary
    ) -> ImageRow:
        found: Instances = result["instances"].to("cpu")
        kept = (found.scores >= self.settings.threshold).numpy()
        classes = found.pred_classes.numpy()[kept].tolist()
        return ImageRow(
            name,
            height=image.shape[0],
            width=image.shape[1],
            labels=[vocabulary.names[vocab_id] for vocab_id in classes],
            category_ids=[vocabulary.dataset_ids[vocab_id] for vocab_id in classes],
            scores=found.scores.numpy()[kept],
            boxes_xyxy_abs=found.pred_boxes.tensor.numpy()[kept],
        )

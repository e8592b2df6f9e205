"""Looks at many files and draws what is found; one that cannot be done does not end the run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from ..files import FileWriteError, require_package
from ..files.images import read_image, reason_of
from ..structures import Vocabulary, one_line
from ..structures.one_by_one import results_or_errors
from .defaults import ON_SHEET
from .drawing import draw_sheet
from .media import Source, VideoFile, VideoReader, output_path, write_image
from .result_files import ImageIds, found_line, write_rows
from .result_view import Detection, ResultView, ViewSettings
from .tracking import FOLLOWED_SHARE, PACKAGES, ObjectTracks

NAMED_BOXES = 6  # of an image, on the terminal
_NOT_DONE = (ValueError, OSError, RuntimeError, MemoryError)  # RuntimeError: torch's, of memory


class BatchPredictor(Protocol):
    """What finds objects in images.

    Attributes:
        vocabulary: what it finds.
    """

    vocabulary: Vocabulary

    def batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The results of BGR images (H, W, 3) uint8."""


@dataclass(frozen=True)
class DrawingSettings:
    """What is made of the files.

    Attributes:
        output: a folder, or a file for a single source.
        view: what of a result is shown.
        show_categories: whether the selected categories are drawn next to an image.
        sheet: gets the first images on one, or None.
        results: gets COCO results, or None.
        annotations: whose image ids these have, or None.
        batch_size: images at once.
        min_side: smaller images are drawn enlarged, in pixels.
        track: whether objects are followed through videos.
    """

    output: Path
    view: ViewSettings = ViewSettings()
    show_categories: bool = False
    sheet: Path | None = None
    results: Path | None = None
    annotations: Path | None = None
    batch_size: int = 8
    min_side: int = 640
    track: bool = False


class DrawnFiles:
    """The files of one run.

    What can be found wrong without a model is found wrong at once.

    Args:
        sources: what to look at.
        settings: what to make of them.

    Attributes:
        problems: a line for each file that could not be done.

    Raises:
        ValueError: an output that is an input or one file for several, annotations that cannot be
            understood, or no video to follow objects through.
        FileNotFoundError: there are no such annotations.
        ModuleNotFoundError: what follows objects is not installed.
    """

    def __init__(self, sources: Sequence[Source], settings: DrawingSettings) -> None:
        self.sources, self.settings = list(sources), settings
        self.problems: list[str] = []
        self._alone = len(self.sources) == 1
        self._rows: list[dict[str, Any]] = []
        self._on_sheet: list[np.ndarray] = []
        for source in self.sources:
            output_path(source, settings.output, self._alone)
        self._ids = ImageIds(settings.annotations, self.sources)
        if settings.track:
            if not any(source.is_video for source in self.sources):
                raise ValueError("objects are followed through videos, and no input is one")
            require_package("trackers", "following objects", PACKAGES)

    def run(self, predictor: BatchPredictor) -> None:
        """Does all images in batches, then the videos, then writes what is of all.

        Args:
            predictor: of a detector.

        Raises:
            OSError: the disk is full, or the sheet or the results cannot be written.
            ValueError: a model that finds no boxes.
        """
        self._predictor, self._view = predictor, ResultView(predictor.vocabulary)
        images = [source for source in self.sources if not source.is_video]
        with tqdm(total=len(images), desc="images", unit="image", disable=None) as progress:
            for batch in _batches(self._read(images, progress), self.settings.batch_size):
                for source, image, result in self._look(batch):
                    if result is not None:
                        self._finish_image(source, image, result)
                    progress.update()
        for source in self.sources:
            if source.is_video:
                self._do_video(source)
        if self.settings.sheet and self._on_sheet:
            write_image(self.settings.sheet, draw_sheet(self._on_sheet))
        if self.settings.results:
            write_rows(self.settings.results, self._rows)

    def _note(self, path: Path, error: Exception) -> None:
        if isinstance(error, FileWriteError) and error.disk_is_full:
            raise error
        self.problems.append(one_line(f"{path}: {reason_of(error)}"))
        tqdm.write(f"cannot do {self.problems[-1]}", file=sys.stderr)

    def _read(
        self, sources: Sequence[Source], progress: tqdm
    ) -> Iterator[tuple[Source, np.ndarray]]:
        for source in sources:
            try:
                yield source, read_image(source.path, "BGR")
            except OSError as error:
                self._note(source.path, error)
                progress.update()

    def _look(
        self, batch: Sequence[tuple[Source, np.ndarray]]
    ) -> Iterator[tuple[Source, np.ndarray, dict[str, Any] | None]]:
        """Results; where the batch fails, of one image after the other, None for those that do."""
        images = [image for _, image in batch]
        results = results_or_errors(self._predictor.batch, images, _NOT_DONE)
        for (source, image), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                self._note(source.path, result)
                result = None
            yield source, image, result

    def _finish_image(
        self, source: Source, image_bgr: np.ndarray, result: Mapping[str, Any]
    ) -> None:
        path = output_path(source, self.settings.output, self._alone)
        found = self._view.detections(result, self.settings.view)
        drawn = self._draw(image_bgr, result, found)
        try:
            write_image(path, drawn)
        except OSError as error:
            self._note(path, error)
            return
        if len(self._on_sheet) < ON_SHEET:
            self._on_sheet.append(drawn)
        names = [f"{self._view.vocabulary.names[f.shown_id]} {100 * f.score:.0f}" for f in found]
        tqdm.write(f"{one_line(str(path))}: {found_line(names, NAMED_BOXES)}")
        try:
            self._rows += self._results(source, found, {})
        except ValueError as error:
            self._note(source.path, error)

    def _results(
        self, source: Source, found: Sequence[Detection], place: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        if not self.settings.results:
            return []
        place = {"file_name": str(source.path), **place}
        rows = self._view.coco_rows(found, self._ids.of(source.path))
        return [row | place for row in rows]

    def _draw(
        self, image_bgr: np.ndarray, result: Mapping[str, Any], found: Sequence[Detection]
    ) -> np.ndarray:
        drawn = self._view.draw(image_bgr[:, :, ::-1], found, min_side=self.settings.min_side)
        if self.settings.show_categories:
            drawn = self._view.with_panel(drawn, result)
        return drawn

    def _frames_with_objects(
        self, reader: VideoReader
    ) -> Iterator[tuple[np.ndarray, Mapping[str, Any], list[Detection]]]:
        """Each frame of a video with its result, and what of it is shown."""
        batches = _batches(reader, self.settings.batch_size)
        looked_at = ((batch, self._predictor.batch(batch)) for batch in batches)
        frames = (pair for both in looked_at for pair in zip(*both, strict=True))
        view = self.settings.view
        if not self.settings.track:
            for frame, result in frames:
                yield frame, result, self._view.detections(result, view)
            return
        more = replace(view, threshold=FOLLOWED_SHARE * view.threshold, most=None)
        found = ((pair, self._view.detections(pair[1], more)) for pair in frames)
        for pair, objects in ObjectTracks(reader.rate, view.threshold).follow(found):
            yield *pair, objects[: view.most]

    def _do_video(self, source: Source) -> None:
        """Draws a video whole, or notes why not; its results are taken up if it is whole."""
        path = output_path(source, self.settings.output, self._alone)
        rows: list[dict[str, Any]] = []
        frame_number = 0
        try:
            reader = VideoReader(source.path)
            with VideoFile(path, reader.rate) as video, _frames_of(source, reader) as progress:
                for frame, result, found in self._frames_with_objects(reader):
                    video.write(self._draw(frame, result, found))
                    rows += self._results(source, found, {"frame": frame_number})
                    frame_number += 1
                    progress.update()
                if not frame_number:
                    raise OSError("it has no frame that OpenCV can read")
        except _NOT_DONE as error:
            self._note(source.path, error)
            return
        self._rows += rows
        tqdm.write(f"{one_line(str(path))}: {frame_number} frames")


def _frames_of(source: Source, reader: VideoReader) -> tqdm:
    name = one_line(source.path.name)
    return tqdm(total=reader.num_frames, desc=name, unit="frame", disable=None)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

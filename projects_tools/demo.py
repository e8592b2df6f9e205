"""Draws what a detector finds in pictures and videos.

Examples:
    python projects_tools/demo.py --config-file configs/emojidet/quickstart.py \\
        --weights output/quickstart/training/model_inference.pth \\
        --input output/quickstart/datasets/emojidet/images/val --output output/demo
    python projects_tools/demo.py ... --input photo.jpg --output found.png --show-categories
    python projects_tools/demo.py ... --input 'clips/*.mp4' --output drawn --branch animal --depth 2
    ls photos/*.jpg | python projects_tools/demo.py ... --input - --output drawn --json found.json

Colours follow the category tree: siblings look alike. A file that cannot be read is named, the rest
is done, and the exit code is 1. Overrides of the config (key=value) go at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cqdino_d2.files import write_atomically
from cqdino_d2.prediction import CategoryPredictor
from cqdino_d2.prediction.loading import load_predictor, restricted
from cqdino_d2.visualization.drawing import draw_sheet
from cqdino_d2.visualization.media import (
    Source,
    VideoFile,
    VideoReader,
    find_sources,
    output_path,
    read_picture,
    write_picture,
)
from cqdino_d2.visualization.result_view import ResultView, ViewSettings

_NAMED_BOXES = 6
_ON_SHEET = 12


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a config of configs/")
    add("--weights", required=True, metavar="FILE", help="a checkpoint, vocabulary.json beside it")
    add(
        "--input",
        nargs="+",
        required=True,
        metavar="NAME",
        help="pictures, videos, patterns, folders, or - for names from the standard input",
    )
    add("--output", type=Path, required=True, metavar="DIR|FILE", help="a file for one input")
    add("--threshold", type=float, default=0.3, metavar="T", help="lowest score shown, 0..1 (0.3)")
    add("--topk", type=int, metavar="N", help="at most so many boxes per picture")
    add(
        "--depth",
        type=int,
        metavar="D",
        help="name things by their ancestor at this depth of the tree, 1 for the roots",
    )
    add("--only", nargs="+", default=[], metavar="NAME", help="find these categories only")
    add("--branch", nargs="+", default=[], metavar="NAME", help="the same, with all below them")
    add("--num-selected", type=int, metavar="K", help="categories that a picture selects")
    add("--show-categories", action="store_true", help="the selected categories beside the picture")
    add("--sheet", type=Path, metavar="FILE", help=f"the first {_ON_SHEET} pictures on one")
    add("--json", type=Path, metavar="FILE", help="what is shown, as COCO results")
    add(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="a COCO file whose image ids --json takes "
        "by file name; else pictures are numbered from 1",
    )
    add("--batch-size", type=int, default=8, metavar="B", help="pictures at once (8)")
    add(
        "--min-side",
        type=int,
        default=640,
        metavar="PIXELS",
        help="smaller pictures are drawn enlarged (640)",
    )
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    add("overrides", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    overrides = [name for name in given.input if "=" in name and not Path(name).exists()]
    given.input = [name for name in given.input if name not in overrides]
    given.overrides += overrides
    if not 0 <= given.threshold <= 1:
        parser.error(f"--threshold must be in 0..1, got {given.threshold}")
    for name in ("topk", "depth", "num_selected", "batch_size", "min_side"):
        if (value := getattr(given, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    return given


class ImageIds:
    """Ids for COCO results: those of an annotation file by file name, or 1, 2, ...

    Args:
        annotations: the file, or None.
    """

    def __init__(self, annotations: Path | None) -> None:
        self._file = annotations
        self._known: dict[str, int] = {}
        self._last = 0
        if annotations is not None:
            for image in json.loads(annotations.read_text(encoding="utf-8"))["images"]:
                self._known[Path(image["file_name"]).name] = image["id"]

    def of(self, path: Path) -> int:
        """The id of a picture.

        Raises:
            ValueError: the annotation file lacks it.
        """
        if self._file is None:
            self._last += 1
            return self._last
        if path.name not in self._known:
            raise ValueError(f"{self._file} has no image {path.name}")
        return self._known[path.name]


class Demo:
    """Looks at files and draws what is found.

    Args:
        predictor: of a detector.
        given: the command line.
    """

    def __init__(self, predictor: CategoryPredictor, given: argparse.Namespace) -> None:
        self.predictor, self.given = predictor, given
        self.view = ResultView(predictor.vocabulary)
        self.settings = ViewSettings(given.threshold, given.topk, given.depth)
        self.ids = ImageIds(given.annotations)
        self.rows: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.on_sheet: list[np.ndarray] = []

    def run(self, sources: Sequence[Source]) -> None:
        """Does all pictures in batches, then the videos."""
        pictures = [source for source in sources if not source.is_video]
        with tqdm(total=len(pictures), desc="pictures", unit="picture", disable=None) as progress:
            readable = self._read(pictures, progress)
            for batch in _batches(readable, self.given.batch_size):
                results = self.predictor.batch([image for _, image in batch])
                for (source, image), result in zip(batch, results, strict=True):
                    self._finish_picture(source, image, result, len(sources) == 1)
                    progress.update()
        for source in sources:
            if source.is_video:
                try:
                    self._do_video(source, len(sources) == 1)
                except OSError as error:
                    self._note(source.path, error)

    def _note(self, path: Path, error: Exception) -> None:
        self.problems.append(f"{path}: {error}")
        tqdm.write(f"demo: cannot do {path}: {error}", file=sys.stderr)

    def _read(
        self, sources: Sequence[Source], progress: tqdm
    ) -> Iterator[tuple[Source, np.ndarray]]:
        for source in sources:
            try:
                yield source, read_picture(source.path)
            except OSError as error:
                self._note(source.path, error)
                progress.update()

    def _finish_picture(
        self, source: Source, image_bgr: np.ndarray, result: Mapping[str, Any], alone: bool
    ) -> None:
        path = output_path(source, self.given.output, alone)
        drawn, found = self._draw(image_bgr, result)
        try:
            write_picture(path, drawn)
        except OSError as error:
            self._note(path, error)
            return
        if len(self.on_sheet) < _ON_SHEET:
            self.on_sheet.append(drawn)
        names = [f"{self.view.vocabulary.names[f.shown_id]} {100 * f.score:.0f}" for f in found]
        more = f" and {len(names) - _NAMED_BOXES} more" if len(names) > _NAMED_BOXES else ""
        tqdm.write(f"{path}: {', '.join(names[:_NAMED_BOXES]) or 'nothing'}{more}")
        if self.given.json:
            place = {"file_name": str(source.path)}
            image_id = self.ids.of(source.path)
            self.rows += [row | place for row in self.view.coco_rows(found, image_id)]

    def _draw(self, image_bgr: np.ndarray, result: Mapping[str, Any]) -> tuple[np.ndarray, list]:
        found = self.view.detections(result, self.settings)
        drawn = self.view.draw(image_bgr[:, :, ::-1], found, min_side=self.given.min_side)
        if self.given.show_categories:
            drawn = self.view.with_panel(drawn, result)
        return drawn, found

    def _do_video(self, source: Source, alone: bool) -> None:
        path = output_path(source, self.given.output, alone)
        reader = VideoReader(source.path)
        frame_number = 0
        with (
            VideoFile(path, reader.rate) as video,
            tqdm(
                total=reader.num_frames, desc=source.path.name, unit="frame", disable=None
            ) as progress,
        ):
            for batch in _batches(reader, self.given.batch_size):
                for frame, result in zip(batch, self.predictor.batch(batch), strict=True):
                    drawn, found = self._draw(frame, result)
                    video.write(drawn)
                    if self.given.json:
                        place = {"file_name": str(source.path), "frame": frame_number}
                        image_id = self.ids.of(source.path)
                        self.rows += [row | place for row in self.view.coco_rows(found, image_id)]
                    frame_number += 1
                    progress.update()
            if not frame_number:
                raise OSError("it has no frame that OpenCV can read")
        tqdm.write(f"{path}: {frame_number} frames")


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def main(arguments: list[str] | None = None) -> int:
    """Draws; the exit code is 1 if a file could not be done and 2 if nothing could."""
    given = parse_arguments(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        sources = find_sources(given.input, sys.stdin if "-" in given.input else ())
        if not sources:
            raise FileNotFoundError("--input names no file")
        for source in sources:
            output_path(source, given.output, len(sources) == 1)
        predictor = load_predictor(
            given.config_file, given.weights, device=given.device, overrides=given.overrides
        )
        predictor = restricted(predictor, given.only, given.branch, given.num_selected)
        demo = Demo(predictor, given)
        demo.run(sources)
        if given.sheet and demo.on_sheet:
            write_picture(given.sheet, draw_sheet(demo.on_sheet))
        if given.json:
            text = json.dumps(demo.rows)
            write_atomically(given.json, lambda file: file.write(text.encode()))
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    if demo.problems:
        print(f"demo: {len(demo.problems)} of {len(sources)} could not be done", file=sys.stderr)
    return 1 if demo.problems else 0


if __name__ == "__main__":
    sys.exit(main())

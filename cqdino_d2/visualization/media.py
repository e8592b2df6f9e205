"""Images and videos named on a command line: finding them, reading videos, writing both."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ..files import FileWriteError, write_atomically
from ..files.images import image_suffixes

logger = logging.getLogger(__name__)

IMAGES = image_suffixes()
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
_USUAL_RATE = 25.0  # frames per second, where a video does not say
_PROBE = 2**20  # bytes


@dataclass(frozen=True)
class Source:
    """A file to look at.

    Attributes:
        path: of an image or video.
        relative: its place below the output folder.
    """

    path: Path
    relative: Path

    @property
    def is_video(self) -> bool:
        """By its suffix."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(inputs: Sequence[str], lines: Iterable[str]) -> list[Source]:
    """The files that a command line names.

    Args:
        inputs: files, patterns with ``*``, folders (with all images and videos below them; what
            else lies there is counted in a warning), or ``-`` for the names in ``lines``.
        lines: a name per line, the standard input.

    Raises:
        FileNotFoundError: a pattern or folder without an image; a missing file is found when it
            is read.
    """
    found: dict[Path, Source] = {}
    for name in inputs:
        names = [line.strip() for line in lines if line.strip()] if name == "-" else [name]
        for one in names:
            for source in _expand(one):
                found.setdefault(source.path, source)
    return _without_collisions(list(found.values()))


def _expand(name: str) -> list[Source]:
    path = Path(name)
    if path.is_dir():
        present = [p for p in sorted(path.rglob("*")) if not p.is_dir()]
        files = [p for p in present if p.suffix.lower() in IMAGES | VIDEOS]
        if left_out := _endings([p for p in present if p.suffix.lower() not in IMAGES | VIDEOS]):
            logger.warning("%s: left out, as no images or videos that are read: %s", name, left_out)
        if not files:
            raise FileNotFoundError(f"there is no image or video in the folder {name}")
        return [Source(p, p.relative_to(path)) for p in files]
    if glob.has_magic(name) and not path.exists():
        files = [Path(p) for p in sorted(glob.glob(name, recursive=True)) if os.path.isfile(p)]
        if not files:
            raise FileNotFoundError(f"no file fits the pattern {name}")
        return [Source(p, Path(p.name)) for p in files]
    return [Source(path, Path(path.name))]


def _endings(files: Sequence[Path]) -> str:
    """How many files there are of each ending, the most frequent first."""
    counts = Counter(file.suffix.lower() or "without an ending" for file in files)
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common())


def _without_collisions(sources: list[Source]) -> list[Source]:
    taken: set[Path] = set()
    result = []
    for source in sources:
        relative, number = source.relative, 2
        while relative.with_suffix("") in taken:
            relative = source.relative.with_stem(f"{source.relative.stem}_{number}")
            number += 1
        taken.add(relative.with_suffix(""))
        result.append(Source(source.path, relative))
    return result


def output_path(source: Source, output: Path, alone: bool) -> Path:
    """Where the drawn file goes.

    Args:
        source: what is drawn.
        output: a folder, or the file itself if there is one source ``alone`` and this has the
            suffix of an image or video.
        alone: see there.

    Raises:
        ValueError: the output is the input, or a file where a folder is needed.
    """
    suffix = source.relative.suffix.lower()
    wanted = VIDEOS if source.is_video else IMAGES
    if output.suffix.lower() in IMAGES | VIDEOS and not output.is_dir():
        if not alone:
            raise ValueError(f"--output {output} is one file: several need a folder")
        if output.suffix.lower() not in wanted:
            kind = "a video" if source.is_video else "an image"
            raise ValueError(f"--output {output}: {source.path} is {kind}")
        path = output
    else:
        kept = suffix if suffix in (".png", ".jpg", ".jpeg") else ".png"
        path = (output / source.relative).with_suffix(".mp4" if source.is_video else kept)
    if path.exists() and source.path.exists() and path.samefile(source.path):
        raise ValueError(f"--output would overwrite the input {source.path}")
    return path


def write_image(path: Path, image_rgb: np.ndarray) -> None:
    """Writes an image, whole or not at all.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    image_bgr = np.ascontiguousarray(image_rgb[:, :, ::-1])
    try:
        done, encoded = cv2.imencode(path.suffix, image_bgr)
    except cv2.error as error:  # an ending that it does not know, a side that is too long
        raise OSError(f"OpenCV cannot write a {path.suffix} of {image_rgb.shape}") from error
    if not done:
        raise OSError(f"OpenCV cannot write a {path.suffix} of {image_rgb.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(encoded.tobytes()))


class VideoReader:
    """The frames of a video as (H, W, 3) uint8 BGR.

    Args:
        path: of the file.

    Attributes:
        rate: frames per second.
        num_frames: as the file says, None where it does not.

    Raises:
        OSError: not a video that OpenCV can read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise OSError("there is no such file")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise OSError("OpenCV cannot read it as a video")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else _USUAL_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = count if count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            there, frame = self._capture.read()
            if not there:
                self._capture.release()
                return
            yield frame


class VideoFile:
    """A video that is written frame by frame and takes its name when it is whole.

    Args:
        path: ending in .mp4 or .avi, say.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._num_frames = 0

    def __enter__(self) -> VideoFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, image_rgb: np.ndarray) -> None:
        """Adds a frame; all have the first one's size.

        Raises:
            OSError: OpenCV cannot write such a video, or the disk is full.
        """
        height, width = (side - side % 2 for side in image_rgb.shape[:2])  # codecs want even sides
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*("MJPG" if self.path.suffix == ".avi" else "mp4v"))
            self._writer = cv2.VideoWriter(str(self._part), codec, self.rate, (width, height))
            if not self._writer.isOpened():
                raise self._refusal()
        self._writer.write(np.ascontiguousarray(image_rgb[:height, :width, ::-1]))
        self._num_frames += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.release()
                if kind is None:
                    self._keep()
        finally:
            self._part.unlink(missing_ok=True)

    def _keep(self) -> None:
        """Gives the video its name. OpenCV does not say whether all of it could be written."""
        try:
            kept = sum(1 for _ in VideoReader(self._part))
        except OSError:
            kept = 0
        if kept < self._num_frames:
            raise self._refusal()
        os.replace(self._part, self.path)

    def _refusal(self) -> OSError:
        """Why OpenCV did not write: what the system says of another file there, or its format."""
        try:
            write_atomically(self._part, lambda file: file.write(bytes(_PROBE)))
        except FileWriteError as error:
            return error
        return OSError(f"OpenCV cannot write a {self.path.suffix} video to {self.path}")

"""The detectors of a server, and what they found for whom; knows nothing of pages."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, TimeoutError
from pathlib import Path

import numpy as np
from PIL import Image

from ..prediction import TextPredictor
from ..prediction.loading import AnyPredictor, Question, load_predictor
from ..structures import Vocabulary
from ..visualization.defaults import SAME_OBJECT_IOU
from ..visualization.result_view import ResultView, ViewSettings
from .image_reading import checked_size, read_bgr
from .limits import Budget, Share, SharedLimits
from .results import Look, box_table, selection_table, summary
from .runner import Busy, Found, ModelFailed, Runner

_MOST_SELECTED = 300
_MOST_WORDS = 2000  # characters: more names take more passes over an image
_LARGEST_SIDE = 2048  # pixels of a drawn image
_SMALLEST_SIDE = 800
GONE = "This image is not kept here any more: give it again."
BUSY = "The server has too much to do: try again in a moment."
FAILED = "The model failed on this image."


class Models:
    """Predictors by name.

    Args:
        predictors: name -> predictor of a detector.
        limits: of images and answers.
        runner: of these predictors; by default one of its own.

    Attributes:
        pixels: of all decoded images; whoever decodes one takes its part.
    """

    def __init__(
        self,
        predictors: Mapping[str, AnyPredictor],
        *,
        limits: SharedLimits,
        runner: Runner | None = None,
    ) -> None:
        self.predictors, self.limits = dict(predictors), limits
        self.pixels = Budget(limits.pixels_at_once)
        self.runner = Runner(self.predictors) if runner is None else runner
        self._views = {name: ResultView(p.vocabulary) for name, p in self.predictors.items()}

    def view(self, name: str, vocabulary: Vocabulary) -> ResultView:
        """Shows what a model found in a vocabulary, its own or one of words."""
        own = self._views[name]
        return own if vocabulary is own.vocabulary else ResultView(vocabulary)

    def reads_words(self, name: str) -> bool:
        """Whether a model detects only the names that it is prompted with."""
        return isinstance(self.predictors[name], TextPredictor)

    def ranges(self, name: str) -> tuple[int, int, int]:
        """Greatest K on offer, the model's own K, depth of its tree; 1 each for words."""
        if self.reads_words(name):
            return 1, 1, 1
        predictor = self.predictors[name]
        most = min(len(predictor.vocabulary), _MOST_SELECTED)
        return most, min(most, predictor.num_selected), self._views[name].tree.depth

    def look(
        self, path: str | Path, name: str, num_selected: int, words: str, branches: bool
    ) -> Look:
        """Runs a model on an image.

        Args:
            path: of the image file.
            name: of the model.
            num_selected: K, 1 or more.
            words: names, one per line or separated by ';', or a caption whose phrases end with
                dots; '' for all categories.
            branches: whether what is below the names in the tree is looked for, too.

        Raises:
            ValueError: what the user can do something about, as plain text without paths.
        """
        if name not in self.predictors:
            raise ValueError("There is no such model.")
        question = self._question(name, words or "", num_selected, branches)
        self.runner.check(name, question)
        found = self._run(Path(path), name, question)
        view = self.view(name, found.answer.vocabulary)
        return Look(Path(path), view, found.answer.result, found.seconds, found.answer.offered)

    def _question(self, name: str, words: str, num_selected: int, branches: bool) -> Question:
        if len(words) > _MOST_WORDS:
            raise ValueError(f"These are {len(words):,} characters; at most {_MOST_WORDS:,}.")
        names = tuple(word.strip() for word in re.split("[\n;]", words) if word.strip())
        if self.reads_words(name):
            if not names:
                raise ValueError('Say what to look for: "a cat. a red ball."')
            return Question(wanted=names[0] if len(names) == 1 else names)
        kind = "branches" if branches else "only"
        return Question(**{kind: names}, num_selected=int(num_selected))

    def _run(self, path: Path, name: str, question: Question) -> Found:
        with self._share_of(path) as share:
            image_bgr = read_bgr(path)
            try:
                future = self.runner.submit(name, image_bgr, question)
                share.keep()  # the queue does, also where nobody waits any more
                future.add_done_callback(lambda _: share.let_go())
                return future.result(self.limits.answer_seconds)
            except ModelFailed as error:
                raise ValueError(FAILED) from error
            except (Busy, CancelledError) as error:
                raise ValueError(BUSY) from error
            except TimeoutError as error:
                future.cancel()
                raise ValueError(BUSY) from error

    def _share_of(self, path: Path) -> Share:
        """Takes room for the pixels of an image that is still to be decoded."""
        height, width = checked_size(path, self.limits.pixels)
        share = self.pixels.share(height * width)
        if share is None:
            raise ValueError(BUSY)
        return share

    def show(
        self, look: Look | None, threshold: float, depth: int
    ) -> tuple[np.ndarray | None, str, str, str]:
        """Image with boxes, summary, table of boxes, table of selected categories (HTML).

        Args:
            look: of one of these models; None gives nothing to show.
            threshold: confidence threshold, 0..1.
            depth: of the tree at which boxes are named.

        Returns:
            (H, W, 3) uint8 RGB of at most 2048 pixels a side, and three pieces of HTML.

        Raises:
            ValueError: the image was deleted meanwhile.
        """
        if look is None:
            return None, "", "", ""
        if not look.path.is_file():
            raise ValueError(GONE)
        view = look.view
        named_at = None if depth >= view.tree.depth else int(depth)
        settings = ViewSettings(threshold, None, named_at, SAME_OBJECT_IOU)
        found = view.detections(look.result, settings)
        with self._share_of(look.path):
            image_rgb = read_bgr(look.path)[:, :, ::-1]
            drawn = _reduced(view.draw(image_rgb, found, min_side=_SMALLEST_SIDE))
        tables = box_table(view, found), selection_table(view, look)
        return drawn, summary(look, found, threshold), *tables


def _reduced(drawn: np.ndarray) -> np.ndarray:
    if max(drawn.shape) <= _LARGEST_SIDE:
        return drawn
    image = Image.fromarray(drawn)
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image)


class Looks:
    """The last look of each session, the least recently used ones dropped beyond the limits.

    Args:
        most_sessions: whose look is kept.
        most_bytes: of all looks together.
    """

    def __init__(self, *, most_sessions: int, most_bytes: int) -> None:
        self.most_sessions, self.most_bytes = most_sessions, most_bytes
        self._looks: OrderedDict[str, Look | None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._looks)

    @property
    def num_bytes(self) -> int:
        """What all looks take."""
        return sum(look.num_bytes for look in self._looks.values() if look is not None)

    def keep(self, session: str, look: Look | None) -> None:
        """Replaces the look of a session; None where its image was taken away."""
        with self._lock:
            self._looks[session] = look
            self._looks.move_to_end(session)
            while len(self._looks) > self.most_sessions or self.num_bytes > self.most_bytes:
                self._looks.popitem(last=False)

    def of(self, session: str) -> Look | None:
        """The look of a session, None where it has none.

        Raises:
            ValueError: it was dropped, or never was.
        """
        with self._lock:
            if session not in self._looks:
                raise ValueError(GONE)
            self._looks.move_to_end(session)
            return self._looks[session]


def load_predictors(
    models: Iterable[tuple[str, str, str]], device: str | None
) -> dict[str, AnyPredictor]:
    """The predictors of (name, config, weights), by name.

    Raises:
        ValueError, OSError: see `load_predictor`.
    """
    return {
        name: load_predictor(config, weights, device=device) for name, config, weights in models
    }


def model_names(config_files: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Names to choose from: the config's, and of the weights as much as tells them apart.

    Raises:
        ValueError: two are the same.
    """
    parts = [Path(file).resolve().parts for file in weights]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        names = [f"{Path(c).stem}: {end}" for c, end in zip(config_files, ends, strict=True)]
        if len(set(names)) == len(names):
            return [Path(file).stem for file in config_files] if len(names) == 1 else names
    raise ValueError("the same config and weights are given twice")

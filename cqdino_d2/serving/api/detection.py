"""From an encoded image and a question to what was found, within the limits of a server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...files import inside
from ...prediction.loading import Question
from ...visualization.result_view import Detection, ResultView, ViewSettings
from ..image_reading import checked_size, read_bgr
from ..limits import ApiLimits, Share
from ..models import BUSY, FAILED, Models
from ..refusals import Refusal
from ..runner import Busy, Found, ModelFailed
from .schema import DetectAnswer, DetectedObject, SelectedCategory, sentence

_RETRY_SECONDS = 2
LARGEST_JPEG_SIDE = 65_500  # pixels that libjpeg writes
NO_IMAGE = "There is no such image in the server's folder."


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Pending:
    """A request in the queue.

    Attributes:
        name: of the model.
        image: (H, W, 3) uint8 BGR.
        future: of what is found.
        share: of the pixels at once; whoever has the request lets it go.
    """

    name: str
    image: np.ndarray
    future: Future[Found]
    share: Share


@dataclass(frozen=True)
class Seen:
    """What was found for a request.

    Attributes:
        pending: the request.
        found: by the model.
        view: shows it.
    """

    pending: Pending
    found: Found
    view: ResultView

    def objects(self, settings: ViewSettings) -> list[Detection]:
        """The objects that are shown, best first."""
        return self.view.detections(self.found.answer.result, settings)

    def name_of(self, item: Detection) -> str:
        """What an object is called."""
        return self.view.vocabulary.names[item.shown_id]

    def answer(self, settings: ViewSettings) -> DetectAnswer:
        """The answer in JSON."""
        vocabulary, result = self.view.vocabulary, self.found.answer.result
        objects = [
            DetectedObject(
                name=self.name_of(item),
                id=vocabulary.dataset_ids[item.shown_id],
                score=round(item.score, 5),
                box=tuple(round(value, 2) for value in item.box_xyxy_abs),
            )
            for item in self.objects(settings)
        ]
        selected = [
            SelectedCategory(
                name=vocabulary.names[i], id=vocabulary.dataset_ids[i], score=round(score, 5)
            )
            for i, score in self.view.selected(result)
        ]
        height, width = self.pending.image.shape[:2]
        return DetectAnswer(
            model=self.pending.name,
            width=width,
            height=height,
            objects=objects,
            selected=selected,
            waited_seconds=round(self.found.waited, 4),
            model_seconds=round(self.found.seconds, 4),
            batch_size=self.found.batch_size,
        )

    def drawn(self, settings: ViewSettings, kind: str) -> bytes:
        """The image with boxes, in its own size, as 'png' or 'jpeg'."""
        image_rgb = self.pending.image[:, :, ::-1]
        drawn = self.view.draw(image_rgb, self.objects(settings), min_side=1)
        file = io.BytesIO()
        Image.fromarray(drawn).save(file, kind)
        return file.getvalue()


class Detector:
    """What all routes detect with.

    Args:
        models: of the server.
        limits: of the server.
        folder: whose images may be named by their path; None for none.
    """

    def __init__(self, models: Models, limits: ApiLimits, folder: Path | None = None) -> None:
        self.models, self.limits, self.folder = models, limits, folder

    def model_name(self, asked: str | None) -> str:
        """The name of a model, the first one's where none is asked for.

        Raises:
            Refusal: there is no such model.
        """
        name = next(iter(self.models.predictors)) if asked is None else asked
        if name not in self.models.predictors:
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such model: see /v1/models.")
        return name

    def file_below_folder(self, name: str) -> bytes:
        """The content of an image file that a request names.

        Raises:
            Refusal: no such file, one that is too large, or no folder to read from.
        """
        if self.folder is None:
            raise Refusal(HTTPStatus.FORBIDDEN, "This server reads no paths: send the image.")
        try:
            path = inside(self.folder, name)
            if not path.is_file():
                raise Refusal(HTTPStatus.NOT_FOUND, NO_IMAGE)
            with path.open("rb") as file:
                content = file.read(self.limits.upload_bytes + 1)
        except (OSError, ValueError) as error:
            raise Refusal(HTTPStatus.NOT_FOUND, NO_IMAGE) from error
        return content

    async def start(
        self, encoded: bytes, name: str, question: Question, largest_side: int | None = None
    ) -> Pending:
        """Puts a request into the queue; its image is decoded and its words are checked before.

        Args:
            encoded: an image file.
            name: of a model.
            question: to it.
            largest_side: of the image in pixels; None for any.

        Raises:
            Refusal: of what cannot be answered, or not now.
        """
        return await asyncio.to_thread(self._start, encoded, name, question, largest_side)

    def _start(
        self, encoded: bytes, name: str, question: Question, largest_side: int | None
    ) -> Pending:
        if len(encoded) > self.limits.upload_bytes:
            most = f"{self.limits.upload_bytes:,}"
            reason = f"An image may have at most {most} bytes."
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        try:
            self._check_amount(question)
            self.models.runner.check(name, question)
            height, width = checked_size(io.BytesIO(encoded), self.limits.pixels)
            if largest_side is not None and max(height, width) > largest_side:
                raise ValueError(
                    f"this image has {width} x {height} pixels, a JPEG at most {largest_side:,} a "
                    "side: ask for png or json"
                )
        except (TypeError, ValueError) as error:
            raise _unusable(error) from error
        share = self.models.pixels.share(height * width)
        if share is None:
            raise _busy()
        try:
            image = read_bgr(io.BytesIO(encoded))
            future = self.models.runner.submit(name, image, question)
        except BaseException as error:
            share.let_go()
            if isinstance(error, ValueError):
                raise _unusable(error) from error
            if isinstance(error, Busy):
                raise _busy() from error
            raise
        share.keep()  # the queue does, also where nobody waits any more
        future.add_done_callback(lambda _: share.let_go())
        return Pending(name, image, future, share)

    def _check_amount(self, question: Question) -> None:
        """Every name, every phrase and every selected category takes time of all who wait."""
        wanted = question.wanted or ()
        rows = [wanted] if isinstance(wanted, str) else wanted
        words = [w for row in rows for w in ([row] if isinstance(row, str) else row)]
        words += question.negatives
        found = {
            "names": len(words),
            "characters of names": sum(map(len, words)),
            "num_selected": question.num_selected or 0,
        }
        most = {
            "names": self.limits.names,
            "characters of names": self.limits.characters,
            "num_selected": self.limits.num_selected,
        }
        for what, number in found.items():
            if number > most[what]:
                raise ValueError(f"{what}: {number:,} are too many, at most {most[what]:,}")

    async def finish(self, pending: Pending, gone: Coroutine[Any, Any, None] | None = None) -> Seen:
        """Waits for the answer.

        Args:
            pending: from `start`.
            gone: ends when nobody waits any more.

        Raises:
            ClientGoneError: nobody waits any more; the request was taken out of the queue.
            Refusal: it took too long, or the model failed.
        """
        answer = asyncio.wrap_future(pending.future)
        left = None if gone is None else asyncio.create_task(gone)
        waits = [answer] if left is None else [answer, left]
        options = {"timeout": self.limits.answer_seconds}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, **options)
            if answer.done():
                found = answer.result()
                view = self.models.view(pending.name, found.answer.vocabulary)
                return Seen(pending, found, view)
        except ModelFailed as error:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED) from error
        finally:
            answer.cancel()
            if left is not None:
                left.cancel()
        if left is not None and left.done():
            raise ClientGoneError
        reason = "The answer took too long: try again when there is less to do."
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, _RETRY_SECONDS)


def _unusable(error: Exception) -> Refusal:
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, sentence(str(error)))


def _busy() -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, _RETRY_SECONDS)

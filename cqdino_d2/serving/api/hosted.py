"""The two protocols of the hosted Grounding DINO API, for its existing clients.

Both begin a task and ask for its result until it is there. The earlier one, of
dds-cloudapi-sdk 0.2, names its image by an address to which it was uploaded before; the later one,
of 0.5, brings the image in base64. Every answer has a ``code``, 0 for success. Boxes are found,
masks are not.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from ...prediction.loading import Question
from ...visualization.result_view import ViewSettings
from ..limits import ApiLimits
from ..models import FAILED
from ..refusals import Refusal
from ..runner import Found
from .bodies import decoded_base64, read_json
from .detection import Detector
from .kept import Kept
from .schema import Share

THRESHOLD = 0.25  # of both protocols, where a client names none
NO_PLACE = "There is no such place for an upload."
_ALL_ALONE = "A universal prompt finds all categories: it stands alone and is positive."
_LONGEST_KEY = 200


class Signature(BaseModel):
    """What a client of the earlier protocol is about to upload."""

    file_name: str = Field("", max_length=1000)


class SpokenPrompt(BaseModel):
    """Words, or 'universal' for all categories of the vocabulary."""

    type: Literal["text", "universal"] = "text"
    text: str = ""
    is_positive: bool = True


class EarlierTask(BaseModel):
    """A task of the earlier protocol."""

    image: str
    prompts: list[SpokenPrompt] = Field(min_length=1, max_length=2000)
    targets: list[str] = Field(["bbox"], max_length=10)
    model: str = Field("", max_length=200)


class LaterTask(BaseModel):
    """A task of the later protocol."""

    image: str
    prompt: SpokenPrompt
    targets: list[str] = Field(["bbox"], max_length=10)
    model: str = Field("", max_length=200)
    bbox_threshold: Share = THRESHOLD
    iou_threshold: Share | None = 0.8


@dataclass(frozen=True)
class _Task:
    """A task that was begun.

    Attributes:
        name: of the model.
        future: of what is found.
        settings: which boxes are shown.
    """

    name: str
    future: Future[Found]
    settings: ViewSettings


@dataclass(frozen=True)
class _Begun:
    """A request that came with a key.

    Attributes:
        digest: of what it asked for.
        task: gives the id of what it began.
    """

    digest: bytes
    task: asyncio.Task[str]

    def failed(self) -> bool:
        """Whether nothing was begun."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


class HostedTasks:
    """Uploads and tasks of both protocols, kept for some time.

    Args:
        detector: that finds the objects.
        limits: of the server.
    """

    def __init__(self, detector: Detector, limits: ApiLimits) -> None:
        most, seconds = limits.kept_tasks, limits.kept_seconds
        self.detector, self.limits = detector, limits
        self._uploads: Kept[bytes] = Kept(most, seconds, limits.kept_bytes)
        self._tasks: Kept[_Task] = Kept(most, seconds)
        self._begun: Kept[_Begun] = Kept(most, seconds)  # by their client and the key it chose

    def sign(self) -> str:
        """A new place for an upload; who knows it may use it."""
        place = uuid.uuid4().hex
        self._uploads.put(place, b"")
        return place

    def knows_place(self, place: str) -> bool:
        """Whether a place was given out and is kept."""
        return self._uploads.get(place) is not None

    def upload(self, place: str, content: bytes) -> None:
        """Keeps an image file.

        Raises:
            Refusal: no such place, or too large a file.
        """
        if not self.knows_place(place):
            raise Refusal(HTTPStatus.NOT_FOUND, NO_PLACE)
        if len(content) > self.limits.upload_bytes:
            reason = f"An image may have at most {self.limits.upload_bytes:,} bytes."
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        self._uploads.put(place, content, len(content))

    def image(self, text: str) -> bytes:
        """The image that a task names: base64, or the address of an upload.

        Raises:
            Refusal: the address of another server, or an upload that is not kept here.
        """
        if not text.startswith(("http://", "https://")):
            return decoded_base64(text)
        try:
            content = self._uploads.get(urlsplit(text).path.removeprefix("/uploads/"))
        except ValueError:
            content = None
        if not content:
            reason = "This server fetches no addresses: upload the image, or send it in base64."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
        return content

    def model_name(self, *asked: str) -> str:
        """The first of the names that a model here bears, else the default model."""
        known = self.detector.models.predictors
        return next((name for name in asked if name in known), next(iter(known)))

    async def begin(
        self,
        task: EarlierTask | LaterTask,
        question: Question,
        name: str,
        *,
        key: str = "",
        client: str = "",
    ) -> str:
        """The id of a new task, or of the one that the same client has begun with the same key.

        Args:
            task: that is asked for.
            question: that it puts.
            name: of the model.
            key: chosen by the client for this task, '' for none.
            client: its address; all who have the server's token choose keys, of their own each.

        Raises:
            Refusal: of what cannot be answered, or a key that came with another task.
        """
        if set(task.targets) != {"bbox"}:
            reason = "This server finds boxes alone: targets must be ['bbox']."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
        if len(key) > _LONGEST_KEY:
            raise Refusal(HTTPStatus.BAD_REQUEST, "The Idempotency-Key is too long.")
        if not key:
            return await self._begin(task, question, name)
        digest = hashlib.sha256(f"{name}\n{task.model_dump_json()}".encode()).digest()
        owned = f"{client} {key}"
        begun = self._begun.get(owned)
        if begun is None or begun.failed() or self._is_forgotten(begun):
            # kept before anything is waited for, so that the same request finds it meanwhile
            begun = _Begun(digest, asyncio.create_task(self._begin(task, question, name)))
            self._begun.put(owned, begun)
        elif begun.digest != digest:
            reason = "This Idempotency-Key came with another task before: take a new one."
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
        return await asyncio.shield(begun.task)

    def _is_forgotten(self, begun: _Begun) -> bool:
        return begun.task.done() and self._tasks.get(begun.task.result()) is None

    async def _begin(self, task: EarlierTask | LaterTask, question: Question, name: str) -> str:
        pending = await self.detector.start(self.image(task.image), name, question)
        pending.share.let_go()  # nothing is drawn: the queue keeps the image as long as it needs
        threshold = task.bbox_threshold if isinstance(task, LaterTask) else THRESHOLD
        identity = str(uuid.uuid4())
        self._tasks.put(identity, _Task(name, pending.future, ViewSettings(threshold)))
        return identity

    def status(self, identity: str) -> dict[str, Any]:
        """How far a task is, with its result or its error.

        Raises:
            Refusal: no such task.
        """
        task = self._tasks.get(identity)
        if task is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such task, or no longer.")
        told = {"uuid": identity, "task_uuid": identity, "error": None, "result": None}
        if not task.future.done():
            return told | {"status": "running" if task.future.running() else "waiting"}
        if task.future.exception() is not None:
            return told | {"status": "failed", "error": FAILED}
        answer = task.future.result().answer
        view = self.detector.models.view(task.name, answer.vocabulary)
        objects = [
            {
                "category": view.vocabulary.names[item.shown_id],
                "score": round(item.score, 5),
                "bbox": [round(value, 2) for value in item.box_xyxy_abs],
            }
            for item in view.detections(answer.result, task.settings)
        ]
        return told | {"status": "success", "result": {"mask_url": None, "objects": objects}}


def earlier_question(task: EarlierTask) -> Question:
    """What a task of the earlier protocol looks for; what is not positive are negatives.

    Raises:
        Refusal: 'universal' along with other prompts, or as a negative.
    """
    if any(prompt.type == "universal" for prompt in task.prompts):
        if len(task.prompts) > 1 or not task.prompts[0].is_positive:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, _ALL_ALONE)
        return Question()
    wanted = [prompt.text for prompt in task.prompts if prompt.is_positive]
    negatives = [text for one in task.prompts if not one.is_positive for text in _names(one.text)]
    return Question(wanted=". ".join(wanted), negatives=tuple(negatives))


def later_question(task: LaterTask) -> Question:
    """What a task of the later protocol looks for.

    Raises:
        Refusal: a prompt that is not positive, beside which there is none.
    """
    if not task.prompt.is_positive:
        reason = "The prompt must be positive: there is no other to look for."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
    wanted = None if task.prompt.type == "universal" else task.prompt.text
    return Question(wanted=wanted, nms_threshold=task.iou_threshold)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(".") if name.strip()]


def _said(data: dict[str, Any]) -> dict[str, Any]:
    return {"code": 0, "msg": "ok", "data": data}


def hosted_routes(tasks: HostedTasks) -> APIRouter:
    """The addresses of both protocols."""
    routes = APIRouter(tags=["clients of the hosted API"])

    @routes.post("/upload_signature")
    async def sign(request: Request) -> dict[str, Any]:
        """A place for an upload (earlier protocol)."""
        await read_json(request, Signature)
        place = f"{request.base_url}uploads/{tasks.sign()}"
        return _said({"upload_url": place, "download_url": place})

    @routes.put("/uploads/{place}")
    async def upload(place: str, request: Request) -> dict[str, Any]:
        """Takes an image file (earlier protocol)."""
        tasks.upload(place, await request.body())
        return _said({})

    @routes.post("/tasks/detection")
    async def begin_earlier(request: Request) -> dict[str, Any]:
        """Begins a task (earlier protocol)."""
        task = await read_json(request, EarlierTask)
        name = tasks.model_name(task.model)
        request.scope["noted"] = {"model": name}
        return _said({"task_uuid": await tasks.begin(task, earlier_question(task), name)})

    @routes.post("/v2/task/{model}/detection")
    async def begin_later(model: str, request: Request) -> dict[str, Any]:
        """Begins a task (later protocol)."""
        task = await read_json(request, LaterTask)
        name = tasks.model_name(task.model, model)
        request.scope["noted"] = {"model": name}
        chosen = {
            "key": request.headers.get("idempotency-key", ""),
            "client": request.client.host if request.client else "",
        }
        return _said({"task_uuid": await tasks.begin(task, later_question(task), name, **chosen)})

    @routes.get("/task_statuses/{identity}")
    @routes.get("/v2/task_status/{identity}")
    async def status(identity: str) -> dict[str, Any]:
        """How far a task is (both protocols)."""
        return _said(tasks.status(identity))

    return routes

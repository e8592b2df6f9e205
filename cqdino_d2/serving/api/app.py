"""The HTTP API: its addresses, put together with what guards them."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from ... import __version__
from ...prediction.loading import Question
from ..limits import ApiLimits
from ..refusals import LOCAL_HOSTS, Refusal
from .answers import refused
from .bodies import decoded_base64, read_request
from .detection import LARGEST_JPEG_SIDE, Detector
from .docs_page import docs_page
from .door import PAGE, Door
from .hosted import HostedTasks, hosted_routes
from .metrics import CONTENT_TYPE, Metrics
from .schema import DetectAnswer, DetectRequest, Problem, ServedModel, ServedModels, request_schema

_TITLE = "CQ-DINO for Detectron2"
_PROBLEMS = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
}


def make_api(
    detector: Detector,
    *,
    host: str,
    limits: ApiLimits,
    metrics: Metrics,
    token: str | None = None,
    page: FastAPI | None = None,
) -> FastAPI:
    """The application.

    Args:
        detector: that all routes share.
        host: address that it listens at; at a local one, no other name leads there.
        limits: of the server.
        metrics: count what is done.
        token: that clients must bring; None for none.
        page: the web page to serve as well; None for none.
    """
    own = {"docs_url": None, "redoc_url": None, "redirect_slashes": False}
    if page is not None:
        own["lifespan"] = lambda _: page.router.lifespan_context(page)
    api = FastAPI(title=_TITLE, version=__version__, **own)
    api.include_router(_detect_routes(detector))
    tasks = HostedTasks(detector, limits)
    api.include_router(hosted_routes(tasks))
    api.include_router(_status_routes(detector, metrics))

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return docs_page(api.openapi())

    @api.exception_handler(Refusal)
    async def say(request: Request, refusal: Refusal) -> Response:
        return refused(refusal, request.url.path)

    @api.exception_handler(HTTPException)
    async def say_other(request: Request, error: HTTPException) -> Response:
        reason = f"{HTTPStatus(error.status_code).phrase}: see /docs."
        headers = tuple((error.headers or {}).items())
        refusal = Refusal(HTTPStatus(error.status_code), reason, headers=headers)
        return refused(refusal, request.url.path)

    if page is not None:
        _mount_page(api, page)
    guards = {"knows_place": tasks.knows_place, "token": token, "is_local": host in LOCAL_HOSTS}
    api.add_middleware(Door, limits=limits, metrics=metrics, has_page=page is not None, **guards)
    return api


def _mount_page(api: FastAPI, page: FastAPI) -> None:
    for path in ("/", PAGE):

        @api.get(path, include_in_schema=False)
        async def to_page() -> RedirectResponse:
            return RedirectResponse(f"{PAGE}/")

    api.mount(PAGE, page)


def _detect_routes(detector: Detector) -> APIRouter:
    routes = APIRouter(tags=["detection"], responses=_PROBLEMS)
    drawn = {"image/png": {}, "image/jpeg": {}}
    answers = {200: {"model": DetectAnswer, "content": drawn}}

    @routes.post("/v1/detect", responses=answers, openapi_extra=request_schema())
    async def detect(request: Request) -> Response:
        """Finds objects in an image; answers JSON or, on request, the image with boxes."""
        wanted, image = await read_request(request)
        name = detector.model_name(wanted.model)
        request.scope["noted"] = {"model": name}
        question = _question_of(wanted)
        encoded = await asyncio.to_thread(_encoded, detector, wanted, image)
        largest_side = LARGEST_JPEG_SIDE if wanted.answer == "jpeg" else None
        pending = await detector.start(encoded, name, question, largest_side)
        with pending.share:  # its image is needed until the answer is made
            seen = await detector.finish(pending, _disconnected(request))
            request.scope["noted"] |= {"batch": seen.found.batch_size}
            if wanted.answer == "json":
                told = seen.answer(wanted.settings()).model_dump_json()
                return Response(told, media_type="application/json")
            content = await asyncio.to_thread(seen.drawn, wanted.settings(), wanted.answer)
        return Response(content, media_type=f"image/{wanted.answer}")

    @routes.get("/v1/models")
    async def models() -> ServedModels:
        """The models that this server runs."""
        return ServedModels(models=[_described(detector, n) for n in detector.models.predictors])

    return routes


def _question_of(wanted: DetectRequest) -> Question:
    try:
        return wanted.question()
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def _encoded(detector: Detector, wanted: DetectRequest, upload: bytes | None) -> bytes:
    """The image file that a request brings or names."""
    ways = [way for way in (upload, wanted.image, wanted.path) if way is not None]
    if len(ways) != 1:
        reason = "Give one image: as a file of a form, in base64, or by its path."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
    if upload is not None:
        return upload
    if wanted.image is not None:
        return decoded_base64(wanted.image)
    return detector.file_below_folder(wanted.path)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _described(detector: Detector, name: str) -> ServedModel:
    reads = detector.models.reads_words(name)
    predictor = detector.models.predictors[name]
    num = None if reads else len(predictor.vocabulary)
    selected = None if reads else predictor.num_selected
    return ServedModel(name=name, reads_words=reads, num_categories=num, num_selected=selected)


def _status_routes(detector: Detector, metrics: Metrics) -> APIRouter:
    routes = APIRouter(tags=["status"])

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def counters() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    metrics.watch_queue(lambda: len(detector.models.runner))
    return routes

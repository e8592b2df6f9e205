"""The application of the page."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .gate import Gate
from .limits import PageLimits
from .models import Models
from .page import STYLE, build_page
from .upload_folder import UploadFolder

_TIDY_SECONDS = 60
# what the browser may load: the page's own files, and what its scripts make themselves
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class PolicyHeaders:
    """Tells browsers with every answer what the page may load."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_policy)


@dataclass(frozen=True)
class PageApp:
    """The page as an application, to be served by itself or mounted in another one.

    Attributes:
        app: the application. Whoever mounts it runs its lifespan.
        end_streams: ends what browsers listen to for as long as the page is open; without that an
            open page would hold a server that is about to end. For the server's thread.
    """

    app: FastAPI
    end_streams: Callable[[], None]


def make_page_app(models: Models, *, folder: Path, limits: PageLimits, is_local: bool) -> PageApp:
    """The page's application.

    Args:
        models: what can be chosen on the page.
        folder: for uploads and drawn images alone: what is in it is deleted in time.
        limits: of the page.
        is_local: see `check_source`.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # read when the parts of the page are made
    uploads = UploadFolder(folder, most_bytes=limits.disk_bytes, keep_seconds=limits.keep_seconds)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_tidied(uploads))

    app.add_middleware(Gate, limits=limits, folder=uploads, is_local=is_local)
    app.add_middleware(PolicyHeaders)  # what is added later is passed first
    fonts = ["system-ui", "sans-serif"]
    gr.mount_gradio_app(
        app,
        build_page(models, limits, uploads),
        path="/",
        footer_links=[],
        run_history=False,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        show_error=False,
        max_file_size=limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=STYLE,
    )
    mount = next(route for route in app.routes if isinstance(route, Mount))
    return PageApp(app, mount.app.stop_event.set)


def _tidied(
    uploads: UploadFolder,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    """While the server runs, its folder is tidied from time to time."""

    async def tidy() -> None:
        while True:
            await asyncio.to_thread(uploads.tidy)
            await asyncio.sleep(_TIDY_SECONDS)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(tidy())
        try:
            yield
        finally:
            task.cancel()

    return lifespan

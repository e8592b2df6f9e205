"""The page: what is on it and what happens when something is changed."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import numpy as np
from gradio.utils import LRUCache

from .limits import PageLimits
from .models import Looks, Models
from .upload_folder import DISK_IS_FULL, UploadFolder

_SECONDS = 20  # that an error is shown
STYLE = """
.found table { width: 100%; border-collapse: collapse; font-size: 0.92em; margin: 0; }
.found table, .found tr, .found th, .found td { border: none !important; }
.found th { text-align: left; font-weight: 600; padding: 3px 8px; opacity: 0.75; }
.found td { padding: 3px 8px; border-top: 1px solid rgba(128, 128, 128, 0.25) !important; }
.found td.number { text-align: right; white-space: nowrap; width: 3.5em; }
.found td.bar { width: 30%; min-width: 70px; }
.found .path { opacity: 0.7; }
.found .above { display: block; font-size: 0.85em; opacity: 0.7; line-height: 1.2; }
.found .chip { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px;
  margin-right: 0.5em; vertical-align: baseline; }
.found .track { background: rgba(128, 128, 128, 0.22); border-radius: 3px; height: 0.7em; }
.found .fill { border-radius: 3px; height: 0.7em; }
.found .scroll { max-height: 18em; overflow-y: auto; }
#selected .scroll { max-height: 62em; }
#right:not(:has(td)) { display: none; }  /* until there is a result */
@media (min-width: 1100px) { #controls { max-width: 23%; } }  /* as wide before as after */
#drawn img { max-height: 640px; object-fit: contain; }
.found p { margin: 0.4em 0; }
"""


@dataclass(frozen=True)
class Controls:
    """What a user can change."""

    image: gr.Image
    model: gr.Dropdown
    threshold: gr.Slider
    level: gr.Slider
    count: gr.Slider
    words: gr.Textbox
    branches: gr.Checkbox
    button: gr.Button


def _make_controls(models: Models) -> Controls:
    """The controls from top to bottom."""
    names = list(models.predictors)
    most, own, depth = models.ranges(names[0])
    several, threshold = len(names) > 1, {"label": "Confidence threshold", "elem_id": "threshold"}
    count = {"label": "Categories (K)", "elem_id": "count"}
    reads = models.reads_words(names[0])
    return Controls(
        image=_make_upload(),
        model=gr.Dropdown(names, value=names[0], label="Model", elem_id="model", visible=several),
        threshold=gr.Slider(0, 1, value=0.3, step=0.01, **threshold),
        level=gr.Slider(
            1,
            max(depth, 2),
            value=depth,
            step=1,
            label="Depth of names",
            info="in the tree; 1 is its roots",
            visible=depth > 1,
            elem_id="depth",
        ),
        count=gr.Slider(1, max(most, 2), value=own, step=1, visible=not reads, **count),
        words=gr.Textbox(**_words(reads), lines=2, max_lines=8, elem_id="words"),
        branches=gr.Checkbox(
            True, label="and all that is below these in the tree", visible=not reads
        ),
        button=gr.Button("Look", variant="primary", elem_id="look"),
    )


def _words(reads: bool) -> dict[str, str]:
    """What the text field says, for a model that reads words and for others."""
    if reads:
        return {
            "label": "Look for",
            "placeholder": "a cat. a red ball.  Or names: one per line",
        }
    return {"label": "Find only", "placeholder": "everything, or names: one per line"}


def _make_upload() -> gr.Image:
    sources = ["upload", "clipboard"]
    image = gr.Image(label="Image", sources=sources, height=220, elem_id="upload")
    uploads = Path(image.GRADIO_CACHE).resolve()

    async def uploaded(path: str | None) -> str | None:
        """Gradio would copy files of the machine or fetch addresses that a client names."""
        if path is None or Path(path).resolve().is_relative_to(uploads):
            return path
        raise gr.Error("Only uploaded images are accepted.", print_exception=False)

    image.async_move_resource_to_block_cache = uploaded
    image.preprocess = _path_of  # an upload is opened by `Models` alone
    return image


class PageFunctions:
    """What the page calls.

    Args:
        models: what can be chosen.
        limits: of the server.
        folder: of uploads and drawn images.
    """

    def __init__(self, models: Models, limits: PageLimits, folder: UploadFolder) -> None:
        self.models, self.folder = models, folder
        self.looks = Looks(most_sessions=limits.sessions, most_bytes=limits.result_bytes)

    def look(
        self,
        path: str | None,
        model: str,
        num_selected: int,
        words: str,
        branches: bool,
        request: gr.Request,
    ) -> None:
        """Runs a model on an upload and keeps what it found."""
        session = str(request.session_hash)
        self.looks.keep(session, None)
        if path is not None:
            with _told():
                look = self.models.look(path, model, num_selected, words, branches)
            self.looks.keep(session, look)

    def show(
        self, path: str | None, threshold: float, depth: int, request: gr.Request
    ) -> tuple[np.ndarray | None, str, str, str]:
        """See `Models.show`."""
        self.folder.tidy()  # the image that is drawn now lands there, too
        with _told():
            look = None if path is None else self.looks.of(str(request.session_hash))
            shown = self.models.show(look, threshold, depth)
            if shown[0] is not None and not self.folder.disk_has(shown[0].nbytes):
                raise ValueError(DISK_IS_FULL)
            return shown

    def controls(self, model: str) -> tuple[gr.Slider, gr.Slider, gr.Textbox, gr.Checkbox]:
        """The sliders, the text field and the check box of a model."""
        most, own, depth = self.models.ranges(model)
        reads = self.models.reads_words(model)
        level = gr.Slider(maximum=max(depth, 2), value=depth, visible=depth > 1)
        count = gr.Slider(maximum=max(most, 2), value=own, visible=not reads)
        return level, count, gr.Textbox(**_words(reads)), gr.Checkbox(visible=not reads)


@contextmanager
def _told() -> Iterator[None]:
    """Says a ValueError on the page, which takes the text for markup: it is escaped."""
    try:
        yield
    except ValueError as error:
        text = html.escape(str(error))
        raise gr.Error(text, duration=_SECONDS, print_exception=False) from error


def build_page(models: Models, limits: PageLimits, folder: UploadFolder) -> gr.Blocks:
    """The page; nothing leaves the server and the browser."""
    call = PageFunctions(models, limits, folder)
    settings = {"title": "CQ-DINO", "analytics_enabled": False, "fill_width": True}
    with gr.Blocks(**settings) as page:
        gr.Markdown("## CQ-DINO: what is in the image?")
        with gr.Row():
            with gr.Column(scale=4, min_width=280, elem_id="controls"):
                given = _make_controls(models)
            with gr.Column(scale=8, min_width=400):
                buttons = ["download", "fullscreen"]
                options = {"format": "png", "interactive": False, "buttons": buttons}
                drawn = gr.Image(show_label=False, elem_id="drawn", **options)
                summary = gr.HTML(elem_id="summary", elem_classes="found")
                boxes = gr.HTML(elem_id="boxes", elem_classes="found")
            with gr.Column(scale=5, min_width=320, elem_id="right"):
                selected = gr.HTML(elem_id="selected", elem_classes="found")
        wanted = [given.image, given.model, given.count, given.words, given.branches]
        shown = [given.image, given.threshold, given.level]
        outputs = [drawn, summary, boxes, selected]
        options = {"api_visibility": "private", "show_progress_on": drawn}
        own = [given.level, given.count, given.words, given.branches]
        given.model.change(call.controls, given.model, own, api_visibility="private")
        changes = [given.image.change, given.model.change, given.count.release]
        changes += [given.words.submit, given.branches.change, given.button.click]
        shows = options | {"concurrency_id": "show"}
        gr.on(changes, call.look, wanted, None, concurrency_id="model", **options).success(
            call.show, shown, outputs, **shows
        )
        changes = [given.threshold.change, given.level.change]
        gr.on(changes, call.show, shown, outputs, trigger_mode="always_last", **shows)
    return _with_queue(page, limits)


def _with_queue(page: gr.Blocks, limits: PageLimits) -> gr.Blocks:
    page.state_session_capacity = limits.sessions  # of what Gradio notes about sessions
    page.queue(max_size=32, default_concurrency_limit=1, api_open=False)
    # Gradio keeps what 2,000 sessions have not fetched, and the names of all sessions; these
    # numbers are no options of it.
    page._queue.pending_messages_per_session.max_size = limits.sessions
    page._queue.pending_event_ids_session = LRUCache(limits.sessions)
    return page


def _path_of(upload: Any) -> str | None:
    return None if upload is None else upload.path

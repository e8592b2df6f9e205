"""The page of `web_demo.py`: what is on it and what happens when something is changed."""

from __future__ import annotations

import html
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import numpy as np
from PIL import Image

from ..prediction import CategoryPredictor
from ..prediction.loading import restricted
from ..visualization.media import read_picture
from ..visualization.result_view import Detection, ResultView, ViewSettings

_LOGGER = logging.getLogger(__name__)
_MOST_SELECTED = 300
_STATE_SECONDS = 3600
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
#drawn img { max-height: 640px; object-fit: contain; }
.found p { margin: 0.4em 0; }
"""


@dataclass(frozen=True)
class Look:
    """What a model found in a picture; the page keeps it to show it in other ways.

    Attributes:
        model: name of the model.
        image_rgb: (H, W, 3) uint8.
        result: of the predictor, on the CPU.
        seconds: that it took.
        offered: categories that could be selected.
    """

    model: str
    image_rgb: np.ndarray
    result: Mapping[str, Any]
    seconds: float
    offered: int


class Models:
    """The predictors that the page offers, by name.

    Args:
        predictors: name -> predictor of a detector.
        max_pixels: larger pictures are refused.
    """

    def __init__(self, predictors: Mapping[str, CategoryPredictor], *, max_pixels: int) -> None:
        self.predictors, self.max_pixels = dict(predictors), max_pixels
        self.views = {name: ResultView(p.vocabulary) for name, p in self.predictors.items()}

    def ranges(self, name: str) -> tuple[int, int, int]:
        """Greatest K on offer, the model's own K, depth of its tree."""
        predictor = self.predictors[name]
        most = min(len(predictor.vocabulary), _MOST_SELECTED)
        return most, min(most, predictor.num_selected), self.views[name].tree.depth

    def look(
        self, path: str | None, name: str, num_selected: int, words: str, branches: bool
    ) -> Look | None:
        """Runs a model on an uploaded picture.

        Raises:
            gr.Error: what the user can do something about; without paths.
        """
        if path is None:
            return None
        image_bgr = self._read(path)
        names = [word.strip() for word in re.split("[\n;]", words or "") if word.strip()]
        start = time.monotonic()
        try:
            predictor = restricted(
                self.predictors[name],
                [] if branches else names,
                names if branches else [],
                int(num_selected),
            )
            result = predictor(image_bgr)
        except ValueError as error:
            raise gr.Error(str(error), duration=20, print_exception=False) from error
        result = {key: value.to("cpu") for key, value in result.items()}
        seconds, offered = time.monotonic() - start, len(predictor.requested_vocab_ids)
        return Look(name, image_bgr[:, :, ::-1], result, seconds, offered)

    def _read(self, path: str) -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path) as stored:
                    width, height = stored.size
            if width * height <= self.max_pixels:
                return read_picture(Path(path))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            _LOGGER.warning("an upload cannot be read: %s", error)
            message = "This file cannot be read as a picture."
            raise gr.Error(message, duration=20, print_exception=False) from error
        message = (
            f"This picture has {width} x {height} pixels; at most {self.max_pixels / 1e6:g} "
            "million are looked at here. Make it smaller and try again."
        )
        raise gr.Error(message, duration=20, print_exception=False)

    def show(
        self, look: Look | None, threshold: float, depth: int
    ) -> tuple[np.ndarray | None, str, str, str]:
        """Picture with boxes, summary, table of boxes, table of selected categories (HTML)."""
        if look is None:
            return None, "", "", ""
        view = self.views[look.model]
        settings = ViewSettings(threshold, None, None if depth >= view.tree.depth else int(depth))
        found = view.detections(look.result, settings)
        boxes = "1 box" if len(found) == 1 else f"{len(found)} boxes"
        summary = (
            f"<p><b>{boxes}</b> of score {threshold:.2f} or more, among "
            f"{len(look.result['selected_vocab_ids'])} selected of {look.offered:,} categories; "
            f"{look.seconds:.2f} s</p>"
        )
        drawn = view.draw(look.image_rgb, found, min_side=800)
        return drawn, summary, _box_table(view, found), _selection_table(view, look)


def _chip(view: ResultView, vocab_id: int) -> str:
    red, green, blue = view.tree.colour(vocab_id)
    colour = f"rgb({red},{green},{blue})"
    return f'<span class="chip" style="background:{colour}"></span>'


def _above(view: ResultView, vocab_id: int) -> str:
    """The names above a category, the root's first."""
    names = [view.vocabulary.names[node] for node in view.tree.path(vocab_id)[:-1]]
    return html.escape(" › ".join(names))


def _box_table(view: ResultView, found: Sequence[Detection]) -> str:
    if not found:
        return "<p>Nothing scores so high. Try a lower threshold.</p>"
    rows = [
        f"<tr><td>{_chip(view, item.shown_id)}{html.escape(view.vocabulary.names[item.shown_id])}"
        f'</td><td class="number">{100 * item.score:.0f} %</td>'
        f'<td class="path">{html.escape(view.tree.path_name(item.vocab_id))}</td></tr>'
        for item in found
    ]
    head = "<tr><th>box</th><th>score</th><th>category</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _selection_table(view: ResultView, look: Look) -> str:
    rows = []
    for vocab_id, score in view.selected(look.result):
        red, green, blue = view.tree.colour(vocab_id)
        fill = f"width:{100 * score:.1f}%;background:rgb({red},{green},{blue})"
        rows.append(
            f"<tr><td>{html.escape(view.vocabulary.names[vocab_id])} "
            f'<span class="above">{_above(view, vocab_id)}</span></td>'
            f'<td class="bar"><div class="track"><div class="fill" style="{fill}"></div></div></td>'
            f'<td class="number">{100 * score:.1f} %</td></tr>'
        )
    head = '<tr><th>selected category</th><th colspan="2">score</th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


@dataclass(frozen=True)
class Controls:
    """What a user can change."""

    picture: gr.Image
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
    several, threshold = len(names) > 1, {"label": "Lowest score", "elem_id": "threshold"}
    count = {"label": "Categories (K)", "elem_id": "count"}
    return Controls(
        picture=_make_upload(),
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
        count=gr.Slider(1, most, value=own, step=1, **count),
        words=gr.Textbox(
            label="Find only",
            placeholder="everything, or names: one per line",
            lines=2,
            max_lines=8,
            elem_id="words",
        ),
        branches=gr.Checkbox(True, label="and all that is below these in the tree"),
        button=gr.Button("Look", variant="primary", elem_id="look"),
    )


def _make_upload() -> gr.Image:
    sources = ["upload", "clipboard"]
    picture = gr.Image(label="Picture", sources=sources, height=220, elem_id="upload")
    uploads = Path(picture.GRADIO_CACHE).resolve()

    async def uploaded(path: str | None) -> str | None:
        """Gradio would copy files of the machine or fetch addresses that a client names."""
        if path is None or Path(path).resolve().is_relative_to(uploads):
            return path
        raise gr.Error("Only uploaded pictures are looked at.", print_exception=False)

    picture.async_move_resource_to_block_cache = uploaded
    picture.preprocess = _path_of  # an upload is opened by `Models` alone
    return picture


def build_page(models: Models) -> gr.Blocks:
    """The page; nothing leaves the server and the browser."""
    settings = {"title": "CQ-DINO", "analytics_enabled": False, "fill_width": True}
    with gr.Blocks(delete_cache=(600, 3600), **settings) as page:
        gr.Markdown("## CQ-DINO: what is in the picture?")
        look = gr.State(None, time_to_live=_STATE_SECONDS)
        with gr.Row():
            with gr.Column(scale=4, min_width=280):
                given = _make_controls(models)
            with gr.Column(scale=8, min_width=400):
                buttons = ["download", "fullscreen"]
                options = {"format": "png", "interactive": False, "buttons": buttons}
                drawn = gr.Image(show_label=False, elem_id="drawn", **options)
                summary = gr.HTML(elem_id="summary", elem_classes="found")
                boxes = gr.HTML(elem_id="boxes", elem_classes="found")
            with gr.Column(scale=5, min_width=320):
                selected = gr.HTML(elem_id="selected", elem_classes="found")
        wanted = [given.picture, given.model, given.count, given.words, given.branches]
        shown = [look, given.threshold, given.level]
        outputs = [drawn, summary, boxes, selected]
        options = {"api_visibility": "private", "show_progress_on": drawn}
        ranges = [given.level, given.count]
        given.model.change(_ranges_of(models), given.model, ranges, api_visibility="private")
        changes = [given.picture.change, given.model.change, given.count.release]
        changes += [given.words.submit, given.branches.change, given.button.click]
        gr.on(changes, models.look, wanted, look, concurrency_id="model", **options).success(
            models.show, shown, outputs, **options
        )
        changes = [given.threshold.change, given.level.change]
        gr.on(changes, models.show, shown, outputs, trigger_mode="always_last", **options)
    return page.queue(max_size=32, default_concurrency_limit=1, api_open=False)


def _path_of(upload: Any) -> str | None:
    return None if upload is None else upload.path


def _ranges_of(models: Models) -> Any:
    def ranges(name: str) -> tuple[gr.Slider, gr.Slider]:
        """The sliders of a model."""
        most, own, depth = models.ranges(name)
        level = gr.Slider(maximum=max(depth, 2), value=depth, visible=depth > 1)
        return level, gr.Slider(maximum=most, value=own)

    return ranges

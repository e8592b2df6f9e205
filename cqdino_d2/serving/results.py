"""What a model found in an image, as tables of HTML; every name in them is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..visualization.result_view import Detection, ResultView


@dataclass(frozen=True)
class Look:
    """What a model found in an image.

    Attributes:
        path: of the encoded image, which is read again whenever it is drawn.
        view: shows results of what was looked for.
        result: of the predictor, on the CPU.
        seconds: that it took.
        offered: categories that could be selected; None where it was said what to look for.
    """

    path: Path
    view: ResultView
    result: Mapping[str, Any]
    seconds: float
    offered: int | None

    @property
    def num_bytes(self) -> int:
        """What its tensors take in memory."""
        fields = self.result["instances"].get_fields().values()
        values = [getattr(value, "tensor", value) for value in (*fields, *self.result.values())]
        storages = [value.untyped_storage() for value in values if hasattr(value, "dtype")]
        return sum(storage.nbytes() for storage in storages)


def summary(look: Look, found: Sequence[Detection], threshold: float) -> str:
    """A paragraph: how many boxes, of how many categories, how long it took."""
    boxes = "1 box" if len(found) == 1 else f"{len(found)} boxes"
    if look.offered is None:
        num = len(look.view.vocabulary)
        among = "1 phrase" if num == 1 else f"{num} phrases"
    else:
        selected = len(look.result["selected_vocab_ids"])
        among = f"{selected} selected of {look.offered:,} categories"
    return (
        f"<p><b>{boxes}</b> of score {threshold:.2f} or more, among {among}; "
        f"{look.seconds:.2f} s</p>"
    )


def box_table(view: ResultView, found: Sequence[Detection]) -> str:
    """A row for each box."""
    if not found:
        return "<p>No score is this high. Try a lower confidence threshold.</p>"
    rows = [
        f"<tr><td>{_chip(view, item.shown_id)}{html.escape(view.vocabulary.names[item.shown_id])}"
        f'</td><td class="number">{100 * item.score:.0f} %</td>'
        f'<td class="path">{html.escape(view.tree.path_name(item.vocab_id))}</td></tr>'
        for item in found
    ]
    head = "<tr><th>box</th><th>score</th><th>category</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def selection_table(view: ResultView, look: Look) -> str:
    """A row for each selected category, with its score as a bar; '' where none is selected."""
    if look.offered is None:
        return ""
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


def _chip(view: ResultView, vocab_id: int) -> str:
    red, green, blue = view.tree.colour(vocab_id)
    colour = f"rgb({red},{green},{blue})"
    return f'<span class="chip" style="background:{colour}"></span>'


def _above(view: ResultView, vocab_id: int) -> str:
    """The names above a category, the root's first."""
    names = [view.vocabulary.names[node] for node in view.tree.path(vocab_id)[:-1]]
    return html.escape(" › ".join(names))

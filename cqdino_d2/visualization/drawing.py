"""Boxes with readable labels on images: the one place where they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from ..structures import one_line

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
_LONGEST_NAME = 32
_LARGEST_ON_SHEET = 1280  # pixels: else a thin image would make all cells huge
_COVERED = 0.1  # share of a label that may hide others
_MOST_LINES = 3  # of a label
_LINE = 12  # em: a label is at least as wide as this before it is wrapped


@dataclass(frozen=True)
class LabelledBox:
    """What is drawn for one object.

    Attributes:
        box_xyxy_abs: in pixels of the image.
        label: beside the box; empty for none. A long one is wrapped; of one that does not fit into
            three lines the end is left out, but not the last word (the score).
        colour: RGB, 0..255.
        thick: whether its frame is twice as wide as the others'.
    """

    box_xyxy_abs: Rectangle
    label: str
    colour: Colour
    thick: bool = False


def short(name: str, length: int = _LONGEST_NAME) -> str:
    """A name in one line, cut to a length."""
    name = one_line(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def enlargement(height: int, width: int, min_side: int) -> int:
    """The integer factor that brings an image's longer side to about ``min_side`` pixels."""
    return max(1, round(min_side / max(height, width)))


@lru_cache
def load_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along."""
    properties = font_manager.FontProperties(
        family="DejaVu Sans", weight="bold" if bold else "normal"
    )
    return ImageFont.truetype(font_manager.findfont(properties), size)


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever stands out more (WCAG's relative luminance)."""
    linear = [
        (c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in background
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def draw_boxes(
    image_rgb: np.ndarray, objects: Sequence[LabelledBox], *, min_side: int = 640
) -> np.ndarray:
    """Draws boxes with labels that keep out of each other's way.

    Where there is no room left for a label it is omitted; its box is drawn all the same.

    Args:
        image_rgb: (H, W, 3) uint8.
        objects: the most important first; their labels get the best places.
        min_side: an image with a shorter longer side is enlarged by a whole factor, so that the
            labels can be read.

    Returns:
        (f H, f W, 3) uint8, f the factor of `enlargement`.
    """
    height, width = image_rgb.shape[:2]
    factor = enlargement(height, width, min_side)
    picture = Image.fromarray(np.ascontiguousarray(image_rgb))
    if factor > 1:
        picture = picture.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(picture)
    longest = max(picture.size)
    font = load_font(int(np.clip(longest / 48, 13, 40)))
    line = int(np.clip(longest / 320, 2, 8))
    boxes = [tuple(factor * value for value in item.box_xyxy_abs) for item in objects]
    for item, box in list(zip(objects, boxes, strict=True))[::-1]:
        _frame(canvas, box, item.colour, 2 * line if item.thick else line)
    _draw_labels(canvas, picture.size, objects, boxes, font)
    return np.asarray(picture)


def _frame(canvas: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, line: int) -> None:
    """A frame with a dark edge, so that it is seen on a background of its own colour."""
    x0, y0, x1, y1 = (round(value) for value in box)
    x1, y1 = max(x0, x1), max(y0, y1)
    canvas.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(20, 20, 20), width=line + 2)
    canvas.rectangle((x0, y0, x1, y1), outline=colour, width=line)


def wrapped(label: str, font: ImageFont.FreeTypeFont, most_width: float) -> list[str]:
    """The lines of a label, at most three, each at most ``most_width`` pixels wide if possible.

    Lines are broken between words, and within a word that is wider than a line.
    """
    lines = _broken(label, font, most_width)
    start, _, last = label.rpartition(" ")
    while len(lines) > _MOST_LINES and start:
        start = start[:-1].rstrip()
        lines = _broken(f"{start}… {last}", font, most_width)
    return lines[:_MOST_LINES]


def _broken(label: str, font: ImageFont.FreeTypeFont, most_width: float) -> list[str]:
    lines, words = [""], label.split()
    if len(words) > 1 and font.getlength(" ".join(words[-2:])) <= most_width:
        words[-2:] = [" ".join(words[-2:])]  # no line for the score alone
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= most_width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > most_width:
                lines.append("")
            lines[-1] += letter
    return lines


def _draw_labels(
    canvas: ImageDraw.ImageDraw,
    size: tuple[int, int],
    objects: Sequence[LabelledBox],
    boxes: Sequence[Rectangle],
    font: ImageFont.FreeTypeFont,
) -> None:
    pad = max(2, font.size // 6)
    ascent, descent = font.getmetrics()
    taken = np.empty((0, 4))
    for item, box in zip(objects, boxes, strict=True):
        if not item.label:
            continue
        most_width = min(max(_LINE * font.size, box[2] - box[0]), size[0] - 1) - 2 * pad
        lines = wrapped(item.label, font, most_width)
        width = max(map(font.getlength, lines)) + 2 * pad
        height = (ascent + descent) * len(lines) + pad
        place = _place(box, (width, height), size, taken)
        if place is None:
            continue
        x, y = place
        rectangle = (x, y, x + width, y + height)
        taken = np.concatenate([taken, [rectangle]])
        canvas.rectangle(rectangle, fill=item.colour, outline=(20, 20, 20))
        for number, text in enumerate(lines):
            top = y + pad / 2 + number * (ascent + descent)
            canvas.text((x + pad, top), text, font=font, fill=text_colour(item.colour))


def _place(
    box: Rectangle, label: tuple[float, float], size: tuple[int, int], taken: np.ndarray
) -> tuple[float, float] | None:
    """Top left corner of a label: the first place beside its box that covers no other label.

    Where every place covers something, that which covers least, if that is a corner at most.
    """
    x0, y0, x1, y1 = box
    width, height = label
    rows = [y0 - height, y1, y0, y1 - height, y0 - 2 * height, y1 + height, y0 + height]
    columns = [x0, x1 - width, (x0 + x1 - width) / 2]
    candidates = np.asarray([(x, y) for y in rows for x in columns])
    beside = [(x1, y) for y in (y0, y1 - height)] + [(x0 - width, y) for y in (y0, y1 - height)]
    candidates = np.concatenate([candidates, beside])
    room = np.asarray([max(0, size[0] - width - 1), max(0, size[1] - height - 1)])
    inside = np.clip(candidates, 0, room)
    moved = np.abs(inside - candidates).sum(1)
    corners = np.concatenate([inside, inside + label], axis=1)
    low = np.maximum(corners[:, None, :2], taken[None, :, :2])
    high = np.minimum(corners[:, None, 2:], taken[None, :, 2:])
    covered = np.clip(high - low, 0, None).prod(-1).sum(-1)
    best = np.lexsort((np.arange(len(inside)), moved > 0, covered))[0]
    if covered[best] > _COVERED * width * height:
        return None
    return float(inside[best, 0]), float(inside[best, 1])


def draw_category_panel(
    height: int,
    rows: Sequence[tuple[str, float, Colour]],
    *,
    title: str,
    width: int = 380,
) -> np.ndarray:
    """A panel with a bar per category, as many as there is room for.

    Args:
        height: of the panel in pixels.
        rows: name, score in 0..1, colour; best first.
        title: on top.
        width: of the panel in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    panel = Image.new("RGB", (width, height), (250, 250, 250))
    canvas = ImageDraw.Draw(panel)
    font, bold = load_font(14), load_font(14, bold=True)
    canvas.text((14, 10), title, font=bold, fill=(20, 20, 20))
    step, top = 22, 38
    room = max(0, (height - top - 8) // step)
    shown = rows if len(rows) <= room else rows[: max(0, room - 1)]
    bar_start, bar_width = width - 130, 74
    for place, (name, score, colour) in enumerate(shown):
        y = top + place * step
        canvas.rectangle((14, y + 3, 24, y + 13), fill=colour)
        canvas.text((32, y), short(name, 26), font=font, fill=(20, 20, 20))
        canvas.rectangle((bar_start, y + 3, bar_start + bar_width, y + 13), fill=(225, 225, 225))
        canvas.rectangle((bar_start, y + 3, bar_start + bar_width * score, y + 13), fill=colour)
        canvas.text(
            (bar_start + bar_width + 8, y), f"{100 * score:.0f} %", font=font, fill=(20, 20, 20)
        )
    if len(shown) < len(rows) and room:
        rest = f"and {len(rows) - len(shown)} more"
        canvas.text((32, top + len(shown) * step), rest, font=font, fill=(110, 110, 110))
    return np.asarray(panel)


def draw_sheet(images: Sequence[np.ndarray], *, gap: int = 6) -> np.ndarray:
    """Several images (H, W, 3) uint8 in rows on white, in cells of the largest one's size.

    Images with a side of more than 1280 pixels are made smaller.
    """
    images = [_at_most(image, _LARGEST_ON_SHEET) for image in images]
    columns = min(len(images), 3 if len(images) > 4 else 2)
    height = max(image.shape[0] for image in images) + gap
    width = max(image.shape[1] for image in images) + gap
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for place, image in enumerate(images):
        y, x = place // columns * height, place % columns * width
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


def _at_most(image: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

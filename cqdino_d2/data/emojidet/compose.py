"""Composes one EmojiDet image: emoji on a made-up background, with tight boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

VISIBLE_ALPHA = 64  # of 255; fainter pixels belong to no object
_VISIBLE_TABLE = [255 * (alpha >= VISIBLE_ALPHA) for alpha in range(256)]
_ROTATION_DEGREES = 20.0  # clock faces half an hour apart still differ
_HUE_DEGREES = 15
_PLACEMENT_TRIALS = 12


@dataclass(frozen=True)
class CompositionSettings:
    """How an image is composed.

    Attributes:
        image_size: side of the square image in pixels.
        object_size: least and most pixels of an object's longer side before others cover it.
        objects: least and most objects tried per image.
        overlap: largest share of an object's pixels that others may cover, 0..1.
        hue_shift: whether hues are turned, by up to 15 degrees.
        grey_share: share of objects in grey, 0..1.
    """

    image_size: int = 128
    object_size: tuple[int, int] = (16, 48)
    objects: tuple[int, int] = (2, 6)
    overlap: float = 0.4
    hue_shift: bool = False
    grey_share: float = 0.2

    def __post_init__(self) -> None:
        low, high = self.object_size
        if not 4 <= low <= high <= self.image_size:
            raise ValueError(
                f"object sizes must satisfy 4 <= MIN <= MAX <= {self.image_size} (the image size), "
                f"got {low} {high}"
            )
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise ValueError(
                f"objects per image must satisfy 1 <= MIN <= MAX, got {self.objects[0]} "
                f"{self.objects[1]}"
            )
        for name in ("overlap", "grey_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True)
class PlacedObject:
    """One emoji in a finished image.

    Attributes:
        category: index into the artwork that was given.
        box_xywh_abs: (x, y, w, h) in pixels, tight around the pixels that are still visible.
    """

    category: int
    box_xywh_abs: tuple[float, float, float, float]


def _random_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, size=3).tolist()
    return red, green, blue


def _draw_blobs(image: Image.Image, rng: np.random.Generator) -> None:
    """Draws ellipses, rectangles and lines: things that are no emoji."""
    draw = ImageDraw.Draw(image, "RGBA")
    size = image.width
    for _ in range(int(rng.integers(0, 7))):
        x, y = (rng.random(2) * 1.2 - 0.1) * size
        width, height = (0.05 + 0.4 * rng.random(2)) * size
        colour = (*_random_colour(rng), int(rng.integers(60, 256)))
        shape = int(rng.integers(3))
        if shape == 0:
            draw.ellipse((x, y, x + width, y + height), fill=colour)
        elif shape == 1:
            draw.rectangle((x, y, x + width, y + height), fill=colour)
        else:
            draw.line((x, y, x + width, y + height), fill=colour, width=int(rng.integers(1, 5)))


def random_background(size: int, rng: np.random.Generator) -> Image.Image:
    """A smooth colour field, often with blobs, sometimes with fine noise.

    Args:
        size: side in pixels.
        rng: source of all randomness.

    Returns:
        An RGB image.
    """
    cells = int(rng.integers(2, 7))
    spread = rng.uniform(20, 110)
    colours = rng.uniform(0, 255, size=3) + rng.normal(0, spread, size=(cells, cells, 3))
    colours += rng.uniform(0.0, 0.8) * (colours.mean(axis=2, keepdims=True) - colours)
    grid = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    image = grid.resize((size, size), Image.BICUBIC)
    if rng.random() < 0.6:
        _draw_blobs(image, rng)
    if rng.random() < 0.3:
        amplitude = int(rng.integers(3, 16))
        noise = rng.integers(-amplitude, amplitude + 1, size=(size, size, 1), dtype=np.int16)
        noisy = np.clip(np.asarray(image, dtype=np.int16) + noise, 0, 255)
        image = Image.fromarray(noisy.astype(np.uint8))
    return image


def _hue_matrix(degrees: float, brightness: float) -> tuple[float, ...]:
    """A 3 x 4 colour matrix: turns the hue about the grey axis and scales the brightness."""
    cosine = math.cos(math.radians(degrees))
    sine = math.sin(math.radians(degrees))
    third, root = (1.0 - cosine) / 3.0, sine / math.sqrt(3.0)
    same, up, down = cosine + third, third + root, third - root
    rows = ((same, down, up), (up, same, down), (down, up, same))
    return tuple(value * brightness for row in rows for value in (*row, 0.0))


def _recolour(
    picture: Image.Image, settings: CompositionSettings, rng: np.random.Generator
) -> Image.Image:
    degrees = rng.uniform(-_HUE_DEGREES, _HUE_DEGREES)
    brightness = rng.uniform(0.8, 1.15)
    grey = rng.random() < settings.grey_share
    alpha = picture.getchannel("A")
    colours = picture.convert("RGB")
    if grey:
        colours = colours.convert("L").convert("RGB")
    matrix = _hue_matrix(degrees if settings.hue_shift else 0.0, brightness)
    colours = colours.convert("RGB", matrix)
    colours.putalpha(alpha)
    return colours


def _tight(picture: Image.Image) -> Image.Image:
    """Cuts the image to its visible pixels."""
    return picture.crop(picture.getchannel("A").point(_VISIBLE_TABLE).getbbox())


def _filled(stencil: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGBA", stencil.size, colour)
    picture.putalpha(stencil)
    return picture


def _random_object(
    artwork: Image.Image, settings: CompositionSettings, rng: np.random.Generator
) -> Image.Image:
    """Rotated, recoloured and resized artwork as RGBA, cut to its visible pixels."""
    if artwork.mode == "L":
        artwork = _filled(artwork, _random_colour(rng))
    degrees = rng.uniform(-_ROTATION_DEGREES, _ROTATION_DEGREES)
    side = rng.uniform(settings.object_size[0], settings.object_size[1])
    picture = _tight(artwork.rotate(degrees, Image.BILINEAR, expand=True))
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return _recolour(picture.resize((width, height), Image.BILINEAR), settings, rng)


class _Canvas:
    """The image so far and, for every pixel, the object that shows there."""

    def __init__(self, background: Image.Image, overlap: float) -> None:
        self.image = background
        self.overlap = overlap
        self.owner = np.full((background.height, background.width), -1, dtype=np.int16)
        self.visible = np.zeros(0, dtype=np.int64)  # pixels each object still shows
        self.area = np.zeros(0, dtype=np.int64)

    def place(self, picture: Image.Image, x: int, y: int) -> bool:
        """Pastes the image at (x, y) unless that would hide another object too far."""
        solid = np.asarray(picture.getchannel("A")) >= VISIBLE_ALPHA
        window = self.owner[y : y + picture.height, x : x + picture.width]
        covered = np.bincount(window[solid] + 1, minlength=len(self.area) + 1)[1:]
        left = self.visible - covered
        if not solid.any() or (left < (1.0 - self.overlap) * self.area).any():
            return False
        window[solid] = len(self.area)
        pixels = int(solid.sum())
        self.visible = np.append(left, pixels)
        self.area = np.append(self.area, pixels)
        self.image.paste(picture, (x, y), picture)
        return True

    def visible_box(self, index: int) -> tuple[float, float, float, float]:
        """(x, y, w, h) around the pixels in which object ``index`` shows."""
        mine = self.owner == index
        columns = np.flatnonzero(mine.any(axis=0))
        rows = np.flatnonzero(mine.any(axis=1))
        x, y = float(columns[0]), float(rows[0])
        return x, y, float(columns[-1]) + 1.0 - x, float(rows[-1]) + 1.0 - y


def compose(
    artwork: Sequence[Sequence[Image.Image]],
    probabilities: np.ndarray,
    settings: CompositionSettings,
    rng: np.random.Generator,
) -> tuple[Image.Image, list[PlacedObject]]:
    """Composes one image.

    An object that finds no place where it hides the others by at most the overlap limit is left
    out, so every object that shows is annotated.

    Args:
        artwork: images per category, in different styles; one of them is drawn. RGBA, or L for
            a stencil that gets a random colour.
        probabilities: (categories,) how often each is drawn, sums to one.
        settings: sizes and limits.
        rng: source of all randomness.

    Returns:
        The RGB image and its objects, from back to front; at least one.
    """
    canvas = _Canvas(random_background(settings.image_size, rng), settings.overlap)
    wanted = int(rng.integers(settings.objects[0], settings.objects[1] + 1))
    categories = []
    cumulative = np.cumsum(probabilities)
    for _ in range(wanted):
        drawn = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        styles = artwork[drawn]
        style = styles[int(rng.integers(len(styles)))] if len(styles) > 1 else styles[0]
        picture = _random_object(style, settings, rng)
        room = (settings.image_size - picture.width, settings.image_size - picture.height)
        for _ in range(_PLACEMENT_TRIALS):
            x, y = (int(rng.integers(0, space + 1)) for space in room)
            if canvas.place(picture, x, y):
                categories.append(drawn)
                break
    objects = [
        PlacedObject(category, canvas.visible_box(index))
        for index, category in enumerate(categories)
    ]
    return canvas.image, objects

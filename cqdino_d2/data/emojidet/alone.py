"""Images of one emoji alone, with a label and no box: a folder for each emoji."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .compose import compose
from .settings import EmojiDetSettings

_KEY = 12  # of the random numbers
_COVERED = (0.6, 0.95)  # range of the longer side of the emoji, as a share of the image's


def paint_alone(
    folder: Path,
    artwork: Sequence[Sequence[Image.Image]],
    categories: Sequence[Mapping[str, Any]],
    settings: EmojiDetSettings,
) -> None:
    """Writes the number of images of each emoji that the settings give for its frequency.

    Args:
        folder: gets a folder for each emoji with images, named by its synset.
        artwork: RGBA images of the emoji, in different styles.
        categories: the table of `category_table`, of which the first are the emoji.
        settings: of the whole set.
    """
    least, most = (round(share * settings.alone_size) for share in _COVERED)
    composition = replace(
        settings.composition,
        image_size=settings.alone_size,
        object_size=(least, most),
        objects=(1, 1),
    )
    wanted = dict(zip("rcf", settings.alone, strict=True))
    for index, row in enumerate(categories[: len(artwork)]):
        own = folder / row["synset"]
        for number in range(wanted[row["frequency"]]):
            own.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([settings.seed, _KEY, index, number])
            picture, _ = compose([artwork[index]], np.ones(1), composition, rng)
            picture.save(own / f"{number + 1:04d}.png", compress_level=1)

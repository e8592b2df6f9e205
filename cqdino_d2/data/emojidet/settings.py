"""What an EmojiDet is built from."""

from __future__ import annotations

from dataclasses import dataclass, field

from .compose import CompositionSettings
from .styles import TWEMOJI


@dataclass(frozen=True)
class EmojiDetSettings:
    """What decides the content of an EmojiDet, byte for byte.

    Attributes:
        categories: number of emoji, up to 1,884, or of icons.
        train_images: number of training images.
        val_images: number of held-out images; they share the artwork with the training ones.
        composition: how an image is composed.
        zipf: a category of rank r is drawn in proportion to r ** -zipf; 0 is balanced.
        balanced_val: whether held-out images show all categories equally often, whatever `zipf`.
        alone: how many images there are of each rare, common and frequent category alone
            (`alone`), in that order; what they are is decided by the training images.
        alone_size: side of these images in pixels.
        interior_categories: whether groups and sub-groups join the vocabulary (without boxes).
        hold_out_novel: whether the emoji marked novel are in no training image.
        train_styles, val_styles: whose artwork the images show: 'twemoji', or names of icon sets
            of iconify (`styles`); an emoji appears in those that have it.
        icon_sets: names of icon sets of iconify whose icons are the categories, in place of emoji.
        seed: decides everything that is random.
    """

    categories: int = 96
    train_images: int = 8000
    val_images: int = 500
    composition: CompositionSettings = field(default_factory=CompositionSettings)
    zipf: float = 0.0
    balanced_val: bool = False
    alone: tuple[int, int, int] = (0, 0, 0)
    alone_size: int = 64
    interior_categories: bool = False
    hold_out_novel: bool = False
    train_styles: tuple[str, ...] = (TWEMOJI,)
    val_styles: tuple[str, ...] = (TWEMOJI,)
    icon_sets: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("categories", "train_images", "val_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        styles = {"train_styles": self.train_styles, "val_styles": self.val_styles}
        for names in (*styles.values(), self.icon_sets):
            if any(not name.replace("-", "").isalnum() for name in names):
                raise ValueError(f"expected names of styles, got {', '.join(names)!r}")
        for name, given in styles.items():
            if not given or (self.icon_sets and given != (TWEMOJI,)):
                raise ValueError(f"{name}: emoji have one at least, icons none, got {given}")
        if self.hold_out_novel and self.categories < 2:
            raise ValueError("holding out novel emoji needs at least 2 categories, got 1")
        if self.zipf < 0 or self.seed < 0:
            raise ValueError(f"zipf and seed cannot be negative, got {self.zipf}, {self.seed}")
        if min(self.alone) < 0 or self.alone_size < 16:
            raise ValueError(
                "images of categories alone are 0 or more, of at least 16 pixels, got "
                f"{self.alone} and {self.alone_size}"
            )

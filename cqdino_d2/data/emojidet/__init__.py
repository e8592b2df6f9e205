"""EmojiDet: images for detection composed of emoji, with boxes and a tree."""

from .build import EmojiDetSettings, build_emojidet
from .compose import CompositionSettings

__all__ = ["CompositionSettings", "EmojiDetSettings", "build_emojidet"]

"""Icons as categories: thousands of names, each with one drawing, from icon sets of iconify."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .compose import VISIBLE_ALPHA
from .styles import IconSet, icon_package

_LEAST_SIBLINGS = 3  # icons that make a word a sub-group
_STYLE_WORDS = frozenset("alt bold dark fill filled icon light line off on outline thin".split())


@dataclass(frozen=True)
class Icon:
    """One icon of a set; see `Subject`.

    Attributes:
        icon_set: name of the set's package.
        own_name: in the set.
        name: its words and its set: sets share names.
        synonyms: its words alone.
        group: the set.
        subgroup: the word of its name that most icons of the set share, or 'other'.
    """

    icon_set: str
    own_name: str
    name: str
    synonyms: tuple[str, ...]
    group: str
    subgroup: str

    kind = "icon"

    @property
    def key(self) -> str:
        """Its place in the tree."""
        return f"icon.{self.icon_set}.{self.own_name}"


@dataclass(frozen=True)
class IconGallery:
    """The icons of several sets.

    Attributes:
        sets: icon sets by name.
        versions: of their packages.
        credits: as `IconSet.credit`.
    """

    sets: Mapping[str, IconSet]

    @classmethod
    def of(cls, names: Sequence[str], folder: Path | None) -> IconGallery:
        """Opens the packages of the sets.

        Raises:
            FileNotFoundError: a package is not in the folder.
            ValueError: no folder, several packages of one set, or one that is none.
        """
        return cls({name: IconSet.read(icon_package(name, folder)) for name in names})

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages."""
        return {name: icons.version for name, icons in self.sets.items()}

    @property
    def credits(self) -> tuple[tuple[str, str], ...]:
        """Of each set, as `IconSet.credit`."""
        return tuple(icons.credit for icons in self.sets.values())

    def icons(self) -> list[Icon]:
        """All that are neither hidden nor turned copies of others, set by set."""
        return [icon for name, icons in self.sets.items() for icon in _icons_of(name, icons)]

    def pictures(self, icons: Sequence[Icon]) -> list[list[Image.Image]]:
        """One drawing of each: RGBA, or L for a stencil that any colour may fill.

        Raises:
            ValueError: an icon of which nothing shows.
        """
        return [[self._picture(icon)] for icon in icons]

    def _picture(self, icon: Icon) -> Image.Image:
        icons = self.sets[icon.icon_set]
        picture = icons.draw(icon.own_name)
        alpha = picture.getchannel("A")
        if not any(alpha.histogram()[VISIBLE_ALPHA:]):
            raise ValueError(f"nothing shows of the icon {icon.own_name!r} of {icon.group}")
        return picture if icons.coloured else alpha


def _icons_of(name: str, icons: IconSet) -> list[Icon]:
    words_of = {own: own.split("-") for own in icons.drawings()}
    shared = Counter(word for words in words_of.values() for word in set(words))
    found = []
    for own, words in words_of.items():
        telling = [word for word in words if len(word) > 1 and word not in _STYLE_WORDS]
        best = max(telling, key=lambda word: shared[word], default="other")
        subgroup = best if shared[best] >= _LEAST_SIBLINGS else "other"
        text = " ".join(words)
        title = icons.credit[0].rpartition(", ")[0]
        found.append(Icon(name, own, f"{text} ({title})", (text,), title, f"{subgroup} in {name}"))
    return found

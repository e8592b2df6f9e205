"""Emoji in other styles of art: icon sets of iconify, fetched by `npm pack @iconify-json/NAME`.

Such a package has ``icons.json`` (SVG bodies by name), ``chars.json`` (code points -> name) and
``info.json`` (author and licence).
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image

from ...files import require_package
from ...files.images import open_image
from .artwork import ARTWORK_PACKAGES, Emoji

TWEMOJI = "twemoji"
_TWEMOJI = (
    "Twemoji, CC-BY 4.0",
    "Twemoji, Twitter, Inc. and other contributors, CC-BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/)",
)
_UNREADABLE = (
    *(tarfile.TarError, EOFError, zlib.error, OSError),
    *(KeyError, TypeError, AttributeError, ValueError),
)
_SIDE = 72  # pixels, as Twemoji's
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="{left} {top} {width} {height}">{body}</svg>'
)


@dataclass(frozen=True)
class IconSet:
    """The artwork of one style.

    Attributes:
        credit: what it is and under which licence; then also whose, and where that stands.
        version: of the package.
        names: code points joined by '-' -> name of the icon; empty for sets that draw no emoji.
        icons: content of ``icons.json``.
        coloured: whether the icons have colours of their own.
    """

    credit: tuple[str, str]
    version: str
    names: Mapping[str, str]
    icons: Mapping[str, Any]
    coloured: bool = True

    @classmethod
    def read(cls, package: Path) -> IconSet:
        """Of a package's .tgz.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file of another form.
        """
        if not package.is_file():
            raise FileNotFoundError(
                f"no such file: {package}; `npm pack @iconify-json/NAME` fetches the icon set NAME"
            )
        try:
            with tarfile.open(package) as archive:
                info, icons, about = (
                    json.load(archive.extractfile(f"package/{name}.json"))
                    for name in ("info", "icons", "package")
                )
                has_names = "package/chars.json" in archive.getnames()
                names = archive.extractfile("package/chars.json") if has_names else None
                chars = json.load(names) if names else {}
            licence = info["license"]
            short = f"{info['name']}, {licence['title']}"
            author = f"{info['name']}, {info['author']['name']}, {licence['title']}"
            credit = (short, f"{author} ({licence['url']})")
            return cls(credit, about["version"], chars, icons, info.get("palette", True))
        except _UNREADABLE as error:
            raise ValueError(f"{package} is no icon set of iconify: {error}") from error

    def drawings(self) -> list[str]:
        """The names of the icons that `draw` can draw, without those that were given up."""
        icons = self.icons["icons"].items()
        return [name for name, icon in icons if self._is_plain(icon) and not icon.get("hidden")]

    def picture(self, code_points: str) -> Image.Image | None:
        """The drawing of an emoji as RGBA of 72 x 72 pixels, or None if the set has none."""
        short = "-".join(part for part in code_points.split("-") if part != "fe0f")
        name = self.names.get(code_points) or self.names.get(short)
        if name is None:
            return None
        alias = self.icons.get("aliases", {}).get(name)
        if alias is not None:
            if alias.keys() != {"parent"}:  # turned or mirrored
                return None
            name = alias["parent"]
        icon = self.icons["icons"].get(name)
        return self.draw(name) if icon is not None and self._is_plain(icon) else None

    def draw(self, name: str) -> Image.Image:
        """An icon as RGBA, 72 pixels wide.

        Raises:
            KeyError: no such icon.
            ModuleNotFoundError: the renderer is not installed.
        """
        side = self.icons.get("height", 16)
        frame = {"left": 0, "top": 0, "width": self.icons.get("width", side), "height": side}
        svg = _SVG.format_map(frame | self.icons["icons"][name])
        resvg = require_package("resvg_py", "artwork of icon sets", ("resvg-py",))
        png = bytes(resvg.svg_to_bytes(svg_string=svg, width=_SIDE, height=_SIDE))
        return open_image(io.BytesIO(png)).convert("RGBA")

    @staticmethod
    def _is_plain(icon: Mapping[str, Any]) -> bool:
        """Whether it is drawn as it stands, neither turned nor mirrored."""
        return "body" in icon and not icon.keys() & {"rotate", "hFlip", "vFlip"}


@dataclass(frozen=True)
class Gallery:
    """Artwork in all styles that a set needs.

    Attributes:
        sets: icon sets by style; Twemoji is not among them.
        versions: of the packages.
        credits: of each style, as `IconSet.credit`.
    """

    sets: Mapping[str, IconSet]
    versions: dict[str, str]
    credits: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, styles: Collection[str], folder: Path | None) -> Gallery:
        """Opens the packages of the styles.

        Raises:
            FileNotFoundError: a package is not in the folder.
            ValueError: styles but no folder, several packages of one style, or one that is none.
        """
        sets = {
            style: IconSet.read(icon_package(style, folder))
            for style in sorted(styles)
            if style != TWEMOJI
        }
        versions = {name: metadata.version(name) for name in ARTWORK_PACKAGES}
        versions |= {style: icons.version for style, icons in sets.items()}
        credits = [_TWEMOJI] if TWEMOJI in styles else []
        return cls(sets, versions, (*credits, *(icons.credit for icons in sets.values())))

    def pictures(self, emoji: Sequence[Emoji], styles: Sequence[str]) -> list[list[Image.Image]]:
        """RGBA images of each emoji, in the styles that have it.

        Raises:
            ValueError: an emoji that none of them has.
        """
        found = []
        for one in emoji:
            drawn = [self._picture(one, style) for style in styles]
            found.append([picture for picture in drawn if picture is not None])
        missing = [one.name for one, own in zip(emoji, found, strict=True) if not own]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(emoji)} emoji are in none of the styles "
                f"{', '.join(styles)}: {missing[0]!r} is the first"
            )
        return found

    def _picture(self, emoji: Emoji, style: str) -> Image.Image | None:
        if style == TWEMOJI:
            return open_image(emoji.artwork).convert("RGBA")
        return self.sets[style].picture(emoji.code_points)


def icon_package(style: str, folder: Path | None) -> Path:
    """The file of an icon set.

    Raises:
        ValueError: no folder, or several packages of that set.
    """
    if folder is None:
        raise ValueError(f"the icon set {style!r} needs the folder of its icon set (--icons)")
    found = sorted(folder.glob(f"iconify-json-{style}-[0-9]*.tgz"))
    if len(found) > 1:
        raise ValueError(
            f"{folder} has {len(found)} icon sets of the style {style!r}, expected one"
        )
    return found[0] if found else folder / f"iconify-json-{style}-VERSION.tgz"

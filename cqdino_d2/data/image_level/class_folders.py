"""A folder of images for each category."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...annotations.cache import Form, Origin, digest_of, load_columns
from ...annotations.columns import FORMAT, Annotations
from ...annotations.ids import UNKNOWN
from ...annotations.image_level.labelled_images import columns_of_labels
from ...annotations.image_rows import ImageRow
from ...files.images import image_suffixes
from ...structures import flat_vocabulary
from ..image_sizes import sizes_from_heads


def load_class_folders(
    folder: str | Path, categories: Sequence[Mapping[str, Any]], layout: str = ""
) -> Annotations:
    """The columns of a folder that holds a folder of images for each category.

    What lies deeper, is hidden or does not end like an image (``.jpg``, ``.png``, ...) is passed
    over. Images are numbered from 1 on, by folder and name. Their sizes come from their heads; they
    and the list of images are cached next to the folder as other columns are, until a file is added
    to a category's folder or taken away. An image that is replaced under its name is not noticed
    here: its box follows its pixels (`CategoryDatasetMapper`).

    Args:
        folder: the outer folder.
        categories: whose names, synsets or ids the folders' names are: see `ranks_of_labels`.
        layout: what to say about the expected layout if it is missing.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds no folder with images.
    """
    texts = [f"{row['id']} {row.get('name')} {row.get('synset')}" for row in categories]
    form = Form(
        FORMAT,
        partial(read_class_folders, categories=categories),
        Annotations,
        Annotations.of_cache,
        f"class folders {digest_of(texts)}",
        Origin(_require_folder, _stamp, _sha256),
    )
    return load_columns(folder, form, layout)


def read_class_folders(
    folder: Path, *, categories: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same without a cache; see `columns_of_labels`.

    Raises:
        ValueError: as `load_class_folders`.
    """
    listed = list(_listing(folder))
    if not listed:
        raise ValueError(
            f"{folder} holds no folder with images (expected: a folder for each category)"
        )
    labels = [label for label, _ in listed]
    rank_of = ranks_of_labels(set(labels), categories)
    return columns_of_labels(
        [ImageRow(n, file_name=f"{label}/{name}") for n, (label, name) in enumerate(listed, 1)],
        labels,
        np.asarray([rank_of[label] for label in labels], np.int32),
        [dict(row) for row in categories],
        str(folder),
        lambda names: sizes_from_heads([os.path.join(folder, name) for name in names]),
    )


def ranks_of_labels(
    labels: Iterable[str], categories: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """The place of the category that each label means, -1 where there is none.

    A label is the name of a category as it is written, the name in another spelling (case,
    underscores or spaces), its synset (LVIS' 'aerosol.n.02') or its id, tried in this order. What
    several categories bear means none of them.

    Args:
        labels: texts.
        categories: category objects with 'id' and, where they have any, 'name' and 'synset'.
    """
    names = [str(row.get("name") or "") for row in categories]
    as_written = _places(names)
    synsets = _places([row.get("synset") or "" for row in categories])
    ids = _places([str(row["id"]) for row in categories])
    spelt = flat_vocabulary(names)

    def rank(label: str) -> int:
        found = [as_written.get(label, ()), spelt.find(label) if spelt.knows(label) else ()]
        found += [synsets.get(label, ()), ids.get(label, ())]
        return next((places[0] for places in found if len(places) == 1), UNKNOWN)

    return {label: rank(label) for label in labels}


def _places(texts: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    return places


def _class_folders(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        folders = [one for one in entries if one.is_dir() and not one.name.startswith(".")]
    return sorted(folders, key=lambda one: one.name)


def _listing(folder: Path) -> Iterator[tuple[str, str]]:
    """Label and file name of each image, in order."""
    suffixes = tuple(image_suffixes())
    for label in _class_folders(folder):
        with os.scandir(label.path) as entries:
            names = sorted(
                one.name
                for one in entries
                if one.name.lower().endswith(suffixes) and not one.name.startswith(".")
            )
        for name in names:
            yield label.name, name


def _require_folder(folder: str | Path, layout: str) -> Path:
    if not Path(folder).is_dir():
        hint = f"; expected layout: {layout}" if layout else ""
        raise FileNotFoundError(f"no such image folder: {folder}{hint}")
    return Path(folder)


def _stamp(folder: Path) -> list[int]:
    """A folder's times change when a file in it comes or goes."""
    found = [(one.name, one.stat()) for one in _class_folders(folder)]
    states = [(name, status.st_mtime_ns, status.st_ctime_ns) for name, status in found]
    digest = hashlib.sha256(repr(states).encode()).digest()
    last = [max((state[place] for state in states), default=0) for place in (1, 2)]
    return [len(states), *last, int.from_bytes(digest[:7], "big")]


def _sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for label, name in _listing(folder):
        digest.update(f"{label}/{name}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

"""Builds EmojiDet: detection data made of real artwork of emoji or icons, with a real taxonomy.

The result has V3Det's layout::

    DIR/images/{train,val}/000001.png ...
    DIR/images/alone/SYNSET/0001.png ...    where asked for: emoji alone, a folder for each
    DIR/annotations/emojidet_{train,val}.json
    DIR/annotations/emojidet_category_tree.json
    DIR/emojidet.json     the parameters it was built with
    DIR/README.md         credit for the artwork
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...files import FileWriteError
from .alone import paint_alone
from .artwork import Subject, all_emoji, choose_subjects
from .compose import PlacedObject, compose
from .icons import IconGallery
from .settings import EmojiDetSettings
from .styles import Gallery
from .tables import annotation_file, category_table, category_tree, novel_emoji

_FORMAT = "cqdino_d2.emojidet.v1"
_PARAMETER_FILE = "emojidet.json"
_SPLIT_KEYS = {"train": 10, "val": 11}
_CHUNK = 32
_README = """# EmojiDet

Images for detection composed of emoji by the tool `projects_tools/make_emojidet.py` of CQ-DINO for
Detectron2. The parameters are in `emojidet.json`.

The artwork was rotated, resized, recoloured and overlaid. Show its credit where you show the
images:

{}
"""


@dataclass(frozen=True)
class _Painter:
    """Draws image after image into a folder; the same one in every process."""

    artwork: dict[str, list[list[Image.Image]]]
    probabilities: dict[str, np.ndarray]
    settings: EmojiDetSettings
    folder: Path

    def paint(self, split: str, index: int) -> list[PlacedObject]:
        rng = np.random.default_rng([self.settings.seed, _SPLIT_KEYS[split], index])
        composition = self.settings.composition
        image, objects = compose(self.artwork[split], self.probabilities[split], composition, rng)
        path = self.folder / "images" / split / f"{index + 1:06d}.png"
        image.save(path, compress_level=1)
        return objects


_painter: _Painter | None = None  # of this worker process


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _set_painter(painter: _Painter) -> None:
    global _painter
    _painter = painter
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _paint(split: str, index: int) -> list[PlacedObject]:
    assert _painter is not None
    return _painter.paint(split, index)


def _paint_all(
    painter: _Painter, jobs: Sequence[tuple[str, int]], workers: int
) -> Iterator[list[PlacedObject]]:
    """The objects of every image, in the order of the jobs."""
    if workers <= 1:
        yield from (painter.paint(*job) for job in jobs)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, _set_painter, (painter,)) as pool:
        yield from pool.map(_paint, *zip(*jobs, strict=True), chunksize=_CHUNK)


def draw_probabilities(count: int, zipf: float, seed: int) -> np.ndarray:
    """(count,) how often each emoji is drawn; the order of the ranks comes from the seed."""
    ranks = 1.0 + np.random.default_rng([seed, 2]).permutation(count)
    weights = ranks**-zipf
    return weights / weights.sum()


def _parameters(settings: EmojiDetSettings) -> dict[str, Any]:
    return {"format": _FORMAT, "parameters": json.loads(json.dumps(asdict(settings)))}


def _is_already_built(output: Path, settings: EmojiDetSettings, overwrite: bool) -> bool:
    """Whether the set is there with these settings.

    Raises:
        FileExistsError: something else is there that must not be replaced.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    parameter_file = output / _PARAMETER_FILE
    if not parameter_file.is_file():
        raise FileExistsError(f"{output} exists and is no EmojiDet (it has no {_PARAMETER_FILE})")
    with open(parameter_file, encoding="utf-8") as file:
        present = json.load(file)
    wanted = _parameters(settings)
    there = _parameters(EmojiDetSettings())["parameters"] | present.get("parameters", {})
    if present.get("format") == _FORMAT and there == wanted["parameters"]:
        return True
    if overwrite:
        return False
    different = [
        f"{key}: {there.get(key)} there, {value} wanted"
        for key, value in wanted["parameters"].items()
        if there.get(key) != value
    ]
    raise FileExistsError(
        f"{output} holds an EmojiDet with other parameters ({'; '.join(different) or 'format'}); "
        "choose another folder or allow overwriting (--overwrite)"
    )


def _remove_partial_builds(output: Path) -> None:
    """Removes what killed builds of the same set left behind."""
    for leftover in output.parent.glob(f".{output.name}.partial-*"):
        process = leftover.name.rsplit("-", 1)[-1]
        if not Path(f"/proc/{process}").exists():
            logging.getLogger(__name__).info("removing the unfinished %s", leftover)
            shutil.rmtree(leftover)


def _write_json(path: Path, content: Any) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)


def _artwork(
    subjects: Sequence[Subject], gallery: Gallery | IconGallery, settings: EmojiDetSettings
) -> dict[str, list[list[Image.Image]]]:
    """The images of each subject, by split."""
    if isinstance(gallery, IconGallery):
        return dict.fromkeys(_SPLIT_KEYS, gallery.pictures(subjects))
    styles = {"train": settings.train_styles, "val": settings.val_styles}
    return {split: gallery.pictures(subjects, names) for split, names in styles.items()}


def _probabilities(count: int, settings: EmojiDetSettings) -> dict[str, np.ndarray]:
    """(count,) how often each subject is drawn, by split."""
    seed = settings.seed
    train = draw_probabilities(count, settings.zipf, seed)
    val = draw_probabilities(count, 0.0, seed) if settings.balanced_val else train
    if settings.hold_out_novel:
        train = train * ~novel_emoji(count, seed)
        train /= train.sum()
    return {"train": train, "val": val}


def _write_set(
    folder: Path,
    subjects: Sequence[Subject],
    gallery: Gallery | IconGallery,
    settings: EmojiDetSettings,
    workers: int,
    progress: bool,
) -> None:
    for name in ("images/train", "images/val", "annotations"):
        (folder / name).mkdir(parents=True)
    painter = _Painter(
        artwork=_artwork(subjects, gallery, settings),
        probabilities=_probabilities(len(subjects), settings),
        settings=settings,
        folder=folder,
    )
    jobs = [("train", index) for index in range(settings.train_images)]
    jobs += [("val", index) for index in range(settings.val_images)]
    painted = _paint_all(painter, jobs, workers)
    objects = list(
        tqdm(painted, "EmojiDet", len(jobs), unit="image", mininterval=1.0, disable=not progress)
    )
    objects_of = {
        "train": objects[: settings.train_images],
        "val": objects[settings.train_images :],
    }
    categories = category_table(
        subjects, settings.interior_categories, objects_of["train"], settings.seed
    )
    paint_alone(folder / "images/alone", painter.artwork["train"], categories, settings)
    for split, key in _SPLIT_KEYS.items():
        rng = np.random.default_rng([settings.seed, 10 * key])
        size = settings.composition.image_size
        content = annotation_file(split, size, categories, objects_of[split], rng)
        content["info"]["description"] += f"; artwork: {'; '.join(c for c, _ in gallery.credits)}"
        _write_json(folder / "annotations" / f"emojidet_{split}.json", content)
    tree = category_tree(subjects, settings.interior_categories)
    _write_json(folder / "annotations" / "emojidet_category_tree.json", tree)
    artwork = {"artwork": gallery.versions}
    _write_json(folder / _PARAMETER_FILE, {**_parameters(settings), **artwork})
    credit = "\n".join(f"* {line}" for _, line in gallery.credits)
    (folder / "README.md").write_text(_README.format(credit), encoding="utf-8")


def _move_into_place(partial: Path, output: Path) -> None:
    if not output.exists() or not any(output.iterdir()):
        os.replace(partial, output)
        return
    old = partial.with_name(f"{partial.name}-old")
    os.replace(output, old)
    os.replace(partial, output)
    shutil.rmtree(old)


def build_emojidet(
    output: str | Path,
    settings: EmojiDetSettings,
    *,
    icons: Path | None = None,
    workers: int = 2,
    overwrite: bool = False,
    progress: bool = True,
) -> bool:
    """Builds an EmojiDet, whole or not at all: it appears under its name when it is finished.

    The content depends on the settings only, not on the number of workers.

    Args:
        output: folder to make.
        settings: what to build.
        icons: folder of the icon sets that the settings name, as `npm pack` leaves them.
        workers: processes that draw the images.
        overwrite: whether an EmojiDet with other settings is replaced.
        progress: whether a progress bar is shown.

    Returns:
        True if it was built, False if it was already there with the same settings.

    Raises:
        FileExistsError: the folder holds something else, or other settings without `overwrite`.
        FileNotFoundError: an icon set is not there.
        ModuleNotFoundError: the artwork packages are not installed.
        ValueError: more categories than emoji or icons, or an emoji that none of the styles has.
        FileWriteError: a file cannot be written, e.g. the disk is full; nothing half-made is left.
    """
    output = Path(output).absolute()
    if _is_already_built(output, settings, overwrite):
        return False
    if settings.icon_sets:
        gallery = IconGallery.of(settings.icon_sets, icons)
        offered = gallery.icons()
    else:
        gallery = Gallery.of({*settings.train_styles, *settings.val_styles}, icons)
        offered = all_emoji()
    subjects = choose_subjects(offered, settings.categories, settings.seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_partial_builds(output)
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        _write_set(partial, subjects, gallery, settings, workers, progress)
        _move_into_place(partial, output)
    except OSError as error:
        raise FileWriteError(f"could not write {output}: {error}", error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True

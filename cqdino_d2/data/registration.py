"""Registers data sets with Detectron2's catalogs and reads their vocabularies.

Nothing is registered by importing this module and no file is opened by registering. A data set's
`thing_classes` and the other metadata that come from its file are filled in when its records or
its vocabulary are first asked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..structures import Vocabulary
from .coco_format import load_coco_format, read_categories
from .vocabularies import vocabulary_from_annotations


@dataclass(frozen=True)
class _Source:
    """Where the files of a data set lie and what to say if they do not."""

    json_file: str
    image_root: str
    tree_file: str | None = None
    evaluator_type: str = "coco"
    layout: str = ""


def _v3det(annotations: str) -> _Source:
    return _Source(
        json_file=f"V3Det/annotations/{annotations}.json",
        image_root="V3Det",
        tree_file="V3Det/annotations/v3det_2023_v1_category_tree.json",
        evaluator_type="v3det",
        layout="ROOT/V3Det/{images/<node>/*.jpg, annotations/v3det_2023_v1_*.json}",
    )


def _lvis(annotations: str) -> _Source:
    return _Source(
        json_file=f"lvis/{annotations}.json",
        image_root="coco",
        evaluator_type="lvis",
        layout="ROOT/lvis/lvis_v1_*.json and ROOT/coco/{train2017,val2017}/*.jpg",
    )


def _coco(split: str) -> _Source:
    return _Source(
        json_file=f"coco/annotations/instances_{split}.json",
        image_root=f"coco/{split}",
        layout="ROOT/coco/{train2017,val2017}/*.jpg, ROOT/coco/annotations/instances_*.json",
    )


def _emojidet(split: str) -> _Source:
    return _Source(
        json_file=f"emojidet/annotations/emojidet_{split}.json",
        image_root="emojidet",
        tree_file="emojidet/annotations/emojidet_category_tree.json",
        layout="ROOT/emojidet as projects_tools/make_emojidet.py makes it",
    )


# LVIS and COCO carry a prefix: Detectron2 itself takes their plain names.
_BUILTIN = {
    "v3det_train": _v3det("v3det_2023_v1_train"),
    "v3det_val": _v3det("v3det_2023_v1_val"),
    "v3det_train_ovd_base": _v3det("v3det_2023_v1_train_ovd_base"),
    "cq_lvis_v1_train": _lvis("lvis_v1_train"),
    "cq_lvis_v1_val": _lvis("lvis_v1_val"),
    "cq_lvis_v1_minival": _lvis("lvis_v1_minival"),
    "cq_coco_2017_train": _coco("train2017"),
    "cq_coco_2017_val": _coco("val2017"),
    "emojidet_train": _emojidet("train"),
    "emojidet_val": _emojidet("val"),
}

_sources: dict[str, _Source] = {}
_vocabularies: dict[tuple[Any, ...], tuple[Vocabulary, dict[str, Any]]] = {}


def _register(name: str, source: _Source) -> None:
    if name in DatasetCatalog:
        if name not in _sources:
            raise ValueError(
                f"a data set {name!r} is registered by someone else; take another name"
            )
        if _sources[name] == source:
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
    _sources[name] = source
    DatasetCatalog.register(name, lambda: _records(name))
    _set_metadata(name, {})


def _set_metadata(name: str, from_file: dict[str, Any]) -> None:
    """Fills the catalog's entry; a changed file replaces the entry, which never changes values."""
    source = _sources[name]
    entries = {
        "json_file": source.json_file,
        "image_root": source.image_root,
        "tree_file": source.tree_file,
        "evaluator_type": source.evaluator_type,
        **from_file,
    }
    present = MetadataCatalog.get(name)
    if any(key in present.as_dict() and present.get(key) != entries[key] for key in entries):
        MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(**entries)


def _records(name: str) -> list[dict[str, Any]]:
    source = _sources[name]
    dataset_vocabulary(name)
    return load_coco_format(source.json_file, source.image_root, layout=source.layout)


def register_all(root: str | Path | None = None) -> None:
    """Registers V3Det, LVIS v1, COCO 2017 and EmojiDet under one root folder.

    The names are `v3det_{train,val,train_ovd_base}`, `emojidet_{train,val}` and, with a prefix
    because Detectron2 takes the plain names for itself, `cq_lvis_v1_{train,val,minival}` and
    `cq_coco_2017_{train,val}`. A second call with the same root changes nothing; one with
    another root registers anew.

    Args:
        root: the folder; by default the environment's DETECTRON2_DATASETS or ./datasets.
    """
    folder = Path(root if root is not None else os.environ.get("DETECTRON2_DATASETS", "datasets"))
    folder = folder.expanduser().absolute()
    for name, source in _BUILTIN.items():
        _register(
            name,
            replace(
                source,
                json_file=str(folder / source.json_file),
                image_root=str(folder / source.image_root),
                tree_file=str(folder / source.tree_file) if source.tree_file else None,
                layout=source.layout.replace("ROOT", str(folder)),
            ),
        )


def register_coco_like(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    tree_file: str | Path | None = None,
    evaluator_type: str = "coco",
) -> None:
    """Registers one's own data set in the COCO format.

    Args:
        name: its name in Detectron2's catalogs.
        json_file: annotation file; category ids may have gaps, extra fields are ignored.
        image_root: folder its file names are relative to.
        tree_file: category tree with V3Det's keys, or the released category table (*.csv).
        evaluator_type: 'coco', 'lvis' or 'v3det'.

    Raises:
        ValueError: the name is taken by a data set that was not registered here.
    """
    _register(
        name,
        _Source(
            json_file=str(Path(json_file).absolute()),
            image_root=str(Path(image_root).absolute()),
            tree_file=str(Path(tree_file).absolute()) if tree_file is not None else None,
            evaluator_type=evaluator_type,
        ),
    )


def is_registered_here(name: str) -> bool:
    """Whether `dataset_vocabulary` knows the data set."""
    return name in _sources


def _stamp(path: str | None) -> tuple[str, int] | None:
    """Identifies the state of a file; a missing one is reported where it is read."""
    if path is None or not os.path.isfile(path):
        return None
    return path, os.stat(path).st_mtime_ns


def _read_vocabulary(source: _Source) -> tuple[Vocabulary, dict[str, Any]]:
    vocabulary = vocabulary_from_annotations(source.json_file, source.tree_file, source.layout)
    categories = read_categories(source.json_file, source.layout)
    metadata: dict[str, Any] = {
        "thing_classes": list(vocabulary.names),
        "thing_dataset_id_to_contiguous_id": dict(vocabulary.vocab_id_of),
    }
    for field in ("frequency", "novel"):
        if all(field in row for row in categories):
            metadata[field] = [row[field] for row in categories]
    return vocabulary, metadata


def dataset_vocabulary(name: str) -> Vocabulary:
    """The vocabulary of a registered data set; also fills its metadata.

    Reads the categories and the tree, not the annotations, and remembers them until one of the
    files changes. ``vocab_id`` is the rank of the category's id, ascending.

    Args:
        name: a data set registered by `register_all` or `register_coco_like`.

    Raises:
        ValueError: no such data set was registered here.
        FileNotFoundError: the annotation or tree file is missing.
        ValueError: a file that cannot be understood, or a tree that does not fit.
    """
    if name not in _sources:
        raise ValueError(
            f"data set {name!r} is not registered; call register_all(root) or register_coco_like "
            f"first (registered: {sorted(_sources)})"
        )
    source = _sources[name]
    key = (_stamp(source.json_file), _stamp(source.tree_file), source.tree_file is None)
    if key not in _vocabularies:
        _vocabularies[key] = _read_vocabulary(source)
    vocabulary, metadata = _vocabularies[key]
    _set_metadata(name, metadata)
    return vocabulary

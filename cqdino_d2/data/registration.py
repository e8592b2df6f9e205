"""Registers datasets with Detectron2's catalogs and reads their vocabularies.

Nothing is registered by importing this module and no file is opened by registering. A dataset's
`thing_classes` and the other metadata that come from its file are filled in when its records or
its vocabulary are first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..annotations.cache import Annotations
from ..annotations.grounded_texts import GroundedTexts
from ..annotations.odvg_sets import ODVG
from ..structures import TextPrompt, Vocabulary, flat_vocabulary
from .records import Records
from .source_files import image_root_of, naming, read_annotations, read_texts, read_vocabulary
from .sources import BUILTIN, Source
from .text_prompts import prompt_of_names
from .text_records import TextRecords

_ONE_TEXT = flat_vocabulary(["text"])

_sources: dict[str, Source] = {}
_vocabularies: dict[tuple[Any, ...], tuple[Vocabulary, dict[str, Any]]] = {}


def register_source(name: str, source: Source) -> None:
    """Registers a dataset whose files are known.

    Raises:
        ValueError: the name is taken by a dataset that was not registered here.
    """
    if name in DatasetCatalog:
        if name not in _sources:
            raise ValueError(f"a dataset {name!r} is registered by someone else; take another name")
        if _sources[name] == source:
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
    _sources[name] = source
    DatasetCatalog.register(name, lambda: registered_records(name))
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


def register_all(root: str | Path | None = None) -> None:
    """Registers the known datasets under one root folder.

    The names are `v3det_{train,val,test,train_ovd_base}`, `emojidet_{train,val}` and, with a
    prefix because Detectron2 takes the plain names for itself,
    `cq_lvis_v1_{train,val,minival,minival_inserted_image_name}` and `cq_coco_2017_{train,val}`;
    with a label and no box `imagenet_lvis_v1` and `emojidet_alone`; with texts in place of
    categories `refexp_val`, `refcoco_{val,testA,testB}`, `refcoco_plus_{val,testA,testB}`,
    `refcocog_{val,test}`, `grefcoco_{val,testA,testB}` and `flickr30k_{val,test}`; and for each
    set of ODinW
    `odinw13_NAME` (validation), `odinw13_NAME_train` and
    `odinw13_NAME_train_{1,3,5,10}shot_seed{3,30,300}`, the same with odinw35. A second call with
    the same root changes nothing; one with another root registers anew.

    Args:
        root: the folder; by default the environment's DETECTRON2_DATASETS or ./datasets.
    """
    folder = Path(root if root is not None else os.environ.get("DETECTRON2_DATASETS", "datasets"))
    folder = folder.expanduser().absolute()
    for name, source in BUILTIN.items():
        register_source(name, source.below(folder))


def register_coco_like(
    name: str,
    json_file: str | Path,
    image_root: str | Path,
    tree_file: str | Path | None = None,
    *,
    tree_node_field: str = "id",
    evaluator_type: str = "coco",
    outside_root: bool = False,
) -> None:
    """Registers one's own dataset in the COCO format.

    Args:
        name: its name in Detectron2's catalogs.
        json_file: annotation file; category ids may have gaps, extra fields are ignored.
        image_root: folder its file names are relative to.
        tree_file: category tree, if there is one: see `hierarchy_from_file`.
        tree_node_field: the field of a category that names its node in an edge list, for instance
            'synset'.
        evaluator_type: 'coco', 'lvis' or 'v3det'.
        outside_root: whether the file may name images that do not lie in that folder, by absolute
            names or by '..'. Links in the folder are followed either way.

    Raises:
        ValueError: the name is taken by a dataset that was not registered here.
    """
    register_source(
        name,
        Source(
            json_file=str(Path(json_file).absolute()),
            image_root=str(Path(image_root).absolute()),
            tree_file=str(Path(tree_file).absolute()) if tree_file is not None else None,
            tree_node_field=tree_node_field,
            evaluator_type=evaluator_type,
            outside_root=outside_root,
        ),
    )


def register_odvg(
    name: str,
    file: str | Path,
    image_root: str | Path,
    label_map: str | Path | None = None,
    *,
    outside_root: bool = False,
) -> None:
    """Registers a set in ODVG, for training with prompts.

    Args:
        name: its name in Detectron2's catalogs.
        file: JSON lines: labelled boxes if there is a label map, else sentences with regions.
        image_root: folder its file names are relative to.
        label_map: {"0": name, ...}.
        outside_root: see `register_coco_like`; sets of sentences may not.

    Raises:
        ValueError: the name is taken by a dataset that was not registered here.
    """
    labels = None if label_map is None else str(Path(label_map).absolute())
    register_source(
        name,
        Source(
            json_file=str(Path(file).absolute()),
            image_root=str(Path(image_root).absolute()),
            evaluator_type=ODVG,  # which no evaluation knows
            outside_root=outside_root,
            label_map=labels,
        ),
    )


def registered_annotations(name: str) -> Annotations:
    """The columns of a dataset registered here.

    Raises:
        ValueError: no such dataset was registered here, or its file cannot be understood.
        FileNotFoundError: its annotation file is missing.
    """
    source = _source(name)
    if source.has_texts:
        raise ValueError(f"{name!r} is a set of texts: its images have no categories")
    if source.categories_of is None:
        return read_annotations(source)
    return read_annotations(source, registered_annotations(source.categories_of).categories())


def registered_texts(name: str) -> GroundedTexts:
    """The texts of a dataset registered here.

    Raises:
        ValueError: no such dataset was registered here, its images have categories, or its file
            cannot be understood.
        FileNotFoundError: its annotation file is missing.
    """
    source = _source(name)
    if not source.has_texts:
        raise ValueError(f"{name!r} is no set of texts: its images have categories")
    return read_texts(source)


def is_set_of_texts(name: str) -> bool:
    """Whether each image of a dataset registered here has its own text, and no categories.

    Raises:
        ValueError: no such dataset was registered here.
    """
    return _source(name).has_texts


def is_image_level(name: str) -> bool:
    """Whether the images of a dataset registered here have a label and no box.

    Raises:
        ValueError: no such dataset was registered here.
    """
    return _source(name).is_image_level


def registered_records(name: str) -> Records | TextRecords:
    """All records of a dataset registered here; also fills its metadata.

    Raises:
        ValueError: a file that cannot be understood, or images outside its image folder.
        FileNotFoundError: its annotation file or its image folder is missing.
    """
    source = _source(name)
    if source.has_texts:
        texts = registered_texts(name)
        dataset_vocabulary(name)
        with naming(source.json_file):
            return TextRecords(texts, image_root_of(source, texts.file_names[0]))
    annotations = registered_annotations(name)
    first = annotations.text("file_name", 0) if len(annotations) else ""
    image_root = image_root_of(source, first)
    if annotations.has_categories:
        dataset_vocabulary(name)
    with naming(source.json_file):
        return Records.of_file(
            annotations,
            image_root,
            outside_root=source.outside_root,
            image_level=source.is_image_level,
        )


def registered_prompt(
    name: str, *, wordings: bool = False, drop_brackets: bool = False
) -> TextPrompt:
    """All categories of a dataset registered here in one caption, a category being a phrase.

    Args:
        name: the dataset.
        wordings: whether the set's own wordings of its names are used, where it has some.
        drop_brackets: whether 'bow (weapon)' is asked for as 'bow'.

    Raises:
        ValueError: as `dataset_vocabulary`, or no category has a name.
        FileNotFoundError: the annotation file is missing.
    """
    vocabulary, source = dataset_vocabulary(name), _source(name)
    known = dict(source.wordings) if wordings else {}
    unnamed = {place for place, said in enumerate(source.class_names) if not said.strip()}
    names = ["" if i in unnamed else said for i, said in enumerate(vocabulary.names)]
    with naming(source.json_file):
        return prompt_of_names(names, known, drop_brackets=drop_brackets)


def registered_descriptions(name: str) -> list[str]:
    """A text about each category of a dataset registered here, empty where there is none.

    Raises:
        ValueError: as `dataset_vocabulary`.
        FileNotFoundError: as `dataset_vocabulary`.
    """
    dataset_vocabulary(name)
    return list(MetadataCatalog.get(name).descriptions)


def _source(name: str) -> Source:
    if name not in _sources:
        raise ValueError(
            f"dataset {name!r} is not registered; call register_all(root) or register_coco_like "
            f"first (registered: {sorted(_sources)})"
        )
    return _sources[name]


def _stamp(path: str | None) -> tuple[int, ...]:
    """Identifies the state of a file; a missing one is reported where it is read."""
    if path is None or not os.path.isfile(path):
        return ()
    status = os.stat(path)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def dataset_vocabulary(name: str | Sequence[str]) -> Vocabulary:
    """The vocabulary of registered datasets; also fills their metadata.

    Read once, until one of the files changes. ``vocab_id`` is the rank of the category's id,
    ascending. A set of texts has no categories: it gets one that stands for what the text says.

    Args:
        name: a dataset registered by `register_all` or `register_coco_like`, or several. Of
            several it is the vocabulary of the first that has the categories of all.

    Raises:
        ValueError: no such dataset was registered here; none of several has all categories; a
            file that cannot be understood, or a tree that does not fit.
        FileNotFoundError: the annotation or tree file is missing.
    """
    if not isinstance(name, str):
        return _common_vocabulary(list(name))
    source = _source(name)
    if source.has_texts:
        return _ONE_TEXT
    annotations = registered_annotations(name)
    facts = annotations.facts
    key = (source, facts["sha256"], facts.get("key", ""), _stamp(source.tree_file))
    if key not in _vocabularies:
        _vocabularies[key] = read_vocabulary(source, annotations)
    vocabulary, metadata = _vocabularies[key]
    _set_metadata(name, metadata)
    return vocabulary


def text_vocabulary() -> Vocabulary:
    """What a config's vocabulary is where every image has its own prompt: one thing, the text."""
    return _ONE_TEXT


def _common_vocabulary(names: Sequence[str]) -> Vocabulary:
    if not names:
        raise ValueError("no dataset is named")
    vocabularies = [dataset_vocabulary(name) for name in names]
    wanted: dict[int, tuple[str, str]] = {}  # category id -> its name and the set that names it
    for name, vocabulary in zip(names, vocabularies, strict=True):
        for dataset_id, category in zip(vocabulary.dataset_ids, vocabulary.names, strict=True):
            first_category, first_name = wanted.setdefault(dataset_id, (category, name))
            if first_category != category:
                raise ValueError(
                    f"category id {dataset_id} is {first_category!r} in {first_name!r} and "
                    f"{category!r} in {name!r}: the datasets do not share their ids"
                )
    for vocabulary in vocabularies:
        if len(vocabulary) == len(wanted):
            return vocabulary
    raise ValueError(
        f"none of the datasets {list(names)} has the categories of all: they have "
        f"{[len(vocabulary) for vocabulary in vocabularies]} categories, {len(wanted)} together"
    )

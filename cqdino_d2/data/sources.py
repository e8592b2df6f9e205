"""Where the files of the known datasets lie below a root folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ..annotations.grounded_texts import EXPRESSIONS, GENERALIZED, KINDS, PHRASES
from ..annotations.odinw import (
    ODINW13,
    ODINW35,
    ODINW_SEEDS,
    ODINW_SHOTS,
    OdinwSet,
    Wording,
)
from ..annotations.odvg_sets import ODVG

IMAGE_LEVEL = "image_level"


@dataclass(frozen=True)
class Source:
    """Where the files of a dataset lie and what to say if they do not.

    Attributes:
        json_file: its annotations.
        image_root: folder that their file names are relative to.
        other_roots: further folders: the first one that has the first image is taken.
        tree_file: category tree.
        tree_node_field: see `register_coco_like`.
        evaluator_type: chooses the evaluator, and for `grounded_texts.KINDS` the reader;
            `odvg_sets.ODVG` and `IMAGE_LEVEL` are for training alone.
        layout: what to say about the expected layout.
        outside_root: see `register_coco_like`.
        class_names: what the categories are called, by ascending id; () leaves the file's names.
        wordings: how some of these names stand in a prompt.
        label_map: of a file of labelled boxes in ODVG; None for all others.
        categories_of: of a folder with a folder for each category, which ``json_file`` and
            ``image_root`` then are: the dataset whose categories these are.
    """

    json_file: str
    image_root: str
    other_roots: tuple[str, ...] = ()
    tree_file: str | None = None
    tree_node_field: str = "id"
    evaluator_type: str = "coco"
    layout: str = ""
    outside_root: bool = False
    class_names: tuple[str, ...] = ()
    wordings: tuple[tuple[str, Wording], ...] = ()
    label_map: str | None = None
    categories_of: str | None = None

    @property
    def is_image_level(self) -> bool:
        """Whether images have a label and no box."""
        return self.evaluator_type == IMAGE_LEVEL

    @property
    def has_texts(self) -> bool:
        """Whether each image has its own text, in place of categories."""
        return self.evaluator_type in KINDS or (
            self.evaluator_type == ODVG and self.label_map is None
        )

    def below(self, folder: Path) -> Source:
        """The same with its files below a root folder."""
        return replace(
            self,
            json_file=str(folder / self.json_file),
            image_root=str(folder / self.image_root),
            other_roots=tuple(str(folder / root) for root in self.other_roots),
            tree_file=str(folder / self.tree_file) if self.tree_file else None,
            layout=self.layout.replace("ROOT", str(folder)),
        )


def _v3det(annotations: str) -> Source:
    return Source(
        json_file=f"V3Det/annotations/{annotations}.json",
        image_root="V3Det",
        tree_file="V3Det/annotations/v3det_2023_v1_category_tree.json",
        evaluator_type="v3det",
        layout="ROOT/V3Det/{images/<node>/*.jpg, annotations/v3det_2023_v1_*.json}",
    )


def _lvis(annotations: str) -> Source:
    return Source(
        json_file=f"lvis/{annotations}.json",
        image_root="coco",
        other_roots=("coco/val2017",),
        evaluator_type="lvis",
        layout="ROOT/lvis/lvis_v1_*.json and ROOT/coco/{train2017,val2017}/*.jpg",
    )


def _coco(split: str) -> Source:
    return Source(
        json_file=f"coco/annotations/instances_{split}.json",
        image_root=f"coco/{split}",
        layout="ROOT/coco/{train2017,val2017}/*.jpg, ROOT/coco/annotations/instances_*.json",
    )


def _emojidet(split: str) -> Source:
    return Source(
        json_file=f"emojidet/annotations/emojidet_{split}.json",
        image_root="emojidet",
        tree_file="emojidet/annotations/emojidet_category_tree.json",
        layout="ROOT/emojidet as projects_tools/make_emojidet.py makes it",
    )


# LVIS and COCO carry a prefix: Detectron2 itself takes their plain names.
_BOXES = {
    "v3det_train": _v3det("v3det_2023_v1_train"),
    "v3det_val": _v3det("v3det_2023_v1_val"),
    "v3det_test": _v3det("v3det_2023_v1_test_image_info"),
    "v3det_train_ovd_base": _v3det("v3det_2023_v1_train_ovd_base"),
    "cq_lvis_v1_train": _lvis("lvis_v1_train"),
    "cq_lvis_v1_val": _lvis("lvis_v1_val"),
    "cq_lvis_v1_minival": _lvis("lvis_v1_minival"),
    "cq_lvis_v1_minival_inserted_image_name": _lvis("lvis_v1_minival_inserted_image_name"),
    "cq_coco_2017_train": _coco("train2017"),
    "cq_coco_2017_val": _coco("val2017"),
    "emojidet_train": _emojidet("train"),
    "emojidet_val": _emojidet("val"),
}

_LABELS = {
    "imagenet_lvis_v1": Source(
        json_file="imagenet/annotations/imagenet_lvis_image_info.json",
        image_root="imagenet/ImageNet-LVIS",
        evaluator_type=IMAGE_LEVEL,
        layout="ROOT/imagenet/{annotations/imagenet_lvis_image_info.json, ImageNet-LVIS/n*/*} as "
        "Detic's tools make them",
    ),
    "emojidet_alone": Source(
        json_file="emojidet/images/alone",
        image_root="emojidet/images/alone",
        evaluator_type=IMAGE_LEVEL,
        categories_of="emojidet_train",
        layout="ROOT/emojidet as projects_tools/make_emojidet.py --alone makes it",
    ),
}


_REFERRING = {  # dataset -> file of MDETR's annotations
    "refexp_val": "final_refexp_val",
    **{f"refcoco_{split}": f"finetune_refcoco_{split}" for split in ("val", "testA", "testB")},
    **{
        f"refcoco_plus_{split}": f"finetune_refcoco+_{split}" for split in ("val", "testA", "testB")
    },
    **{f"refcocog_{split}": f"finetune_refcocog_{split}" for split in ("val", "test")},
}


def _expressions(annotations: str, kind: str) -> Source:
    return Source(
        json_file=f"coco/mdetr_annotations/{annotations}.json",
        image_root="coco/train2014",
        evaluator_type=kind,
        layout="ROOT/coco/train2014/*.jpg, ROOT/coco/mdetr_annotations/*.json",
    )


def _flickr30k(split: str) -> Source:
    images = "flickr30k_entities/flickr30k_images"
    return Source(
        json_file=f"flickr30k_entities/final_flickr_separateGT_{split}.json",
        image_root=images,
        other_roots=(f"{images}/{split}",),
        evaluator_type=PHRASES,
        layout="ROOT/flickr30k_entities/{final_flickr_separateGT_*.json, flickr30k_images/*.jpg}",
    )


def _odinw(one: OdinwSet, split: str, json_file: str) -> Source:
    folder = "/".join(part for part in ("odinw", one.folder, split) if part)
    return Source(
        json_file=f"{folder}/{json_file}",
        image_root=folder,
        layout=f"ROOT/{folder}/{{{json_file}, *.jpg}}",
        class_names=one.classes,
        wordings=tuple(one.wordings.items()),
    )


def _odinw_sets(prefix: str, sets: Mapping[str, OdinwSet]) -> Iterator[tuple[str, Source]]:
    """Each set's validation, training and few-shot training images."""
    for name, one in sets.items():
        yield f"{prefix}_{name}", _odinw(one, one.split, one.json_file)
        yield f"{prefix}_{name}_train", _odinw(one, one.train_split, one.train_file)
        for shots, seed in product(ODINW_SHOTS, ODINW_SEEDS):
            file = f"fewshot_train_shot{shots}_seed{seed}.json"
            few = f"{prefix}_{name}_train_{shots}shot_seed{seed}"
            yield few, _odinw(one, one.train_split, file)


BUILTIN: dict[str, Source] = {
    **_BOXES,
    **_LABELS,
    **{name: _expressions(file, EXPRESSIONS) for name, file in _REFERRING.items()},
    **{
        f"grefcoco_{split}": _expressions(f"finetune_grefcoco_{split}", GENERALIZED)
        for split in ("val", "testA", "testB")
    },
    **{f"flickr30k_{split}": _flickr30k(split) for split in ("val", "test")},
    **dict(_odinw_sets("odinw13", ODINW13)),
    **dict(_odinw_sets("odinw35", ODINW35)),
}

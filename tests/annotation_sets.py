"""Small datasets with the field layouts of COCO, V3Det and LVIS."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from cqdino_d2.data import registration


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_picture(path, height=20, width=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def image_row(image_id, name, **fields):
    return {"id": image_id, "file_name": name, "height": 20, "width": 30, **fields}


def box_row(annotation_id, image_id, category_id, bbox, iscrowd=0):
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": iscrowd,
    }


def v3det_categories():
    return [
        {
            "id": index,
            "name": name,
            "name_zh": "",
            "cat_info": f"about {name}",
            "cat_info_gpt": "",
            "novel": index % 2 == 0,
            "exemplar_image": f"exemplar_images/{index}.jpg",
        }
        for index, name in ((2, "animal"), (1, "dog"), (3, "dog"), (4, "watch"))
    ]


def v3det_tree():
    """animal (2) -> dogs -> dog (1), dog (3); watch (4) below both clock and jewel."""
    return {
        "categoryid2treeid": {"1": "n1", "2": "n2", "3": "n3", "4": "n4"},
        "id2name": {},
        "father2child": {"n2": ["n9"], "n9": ["n1", "n3"], "n7": ["n4"], "n8": ["n4"]},
        "child2father": {"n9": ["n2"], "n1": ["n9"], "n3": ["n9"], "n4": ["n7", "n8"]},
        "ancestor2descendant": {},
        "descendant2ancestor": {},
    }


@pytest.fixture
def v3det_root(tmp_path):
    """A root folder with V3Det's train and val annotations, images and tree."""
    folder = tmp_path / "V3Det"
    for index in range(4):
        write_picture(folder / f"images/n{index}/{index}.png", seed=index)
    content = {
        "images": [image_row(10 + index, f"images/n{index}/{index}.png") for index in range(4)],
        "categories": v3det_categories(),
        "annotations": [
            box_row(1, 10, 1, [2, 3, 10, 5]),
            box_row(2, 10, 2, [2, 3, 10, 5]),  # a second category on the same box
            box_row(3, 10, 4, [25, 15, 10, 10]),  # partly outside
            box_row(4, 11, 4, [40, 3, 10, 5]),  # wholly outside
            box_row(5, 11, 4, [5, 3, 0, 5]),
            box_row(6, 11, 4, [5, 3, 4, -1]),
            box_row(7, 12, 3, [0, 0, 30, 20], iscrowd=1),
            box_row(8, 13, 3, [0.5, 0.25, 3, 4]),
        ],
    }
    for split in ("train", "val", "train_ovd_base"):
        write_json(folder / f"annotations/v3det_2023_v1_{split}.json", content)
    write_json(folder / "annotations/v3det_2023_v1_category_tree.json", v3det_tree())
    return tmp_path


@pytest.fixture(autouse=True)
def clean_catalogs():
    """Leaves Detectron2's catalogs as they were."""
    yield
    for name in list(registration._sources):
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
        del registration._sources[name]

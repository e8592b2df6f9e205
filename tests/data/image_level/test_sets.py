"""Sets of images with a label and no box: from a file and from folders."""

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.annotations.cache import cache_places
from cqdino_d2.data import (
    CategoryDatasetMapper,
    dataset_vocabulary,
    get_image_level_records,
    get_training_records,
    register_all,
    register_image_level,
    registered_records,
)
from cqdino_d2.data.image_level import class_folders
from cqdino_d2.data.image_level.class_folders import ranks_of_labels
from cqdino_d2.structures import flat_vocabulary

from ...annotation_sets import write_json, write_picture
from .conftest import BAND_AID, CAN, CATEGORIES, CROW, OTHER_CROW

CACHE = "CQDINO_D2_CACHE"


def detic_file(folder, images, categories=CATEGORIES):
    """As Detic's tool writes it: no boxes, 'image_count' in the categories."""
    rows = [
        {"id": number, "file_name": name, "width": 30, "height": 20} | fields
        for number, (name, fields) in enumerate(images.items(), 1)
    ]
    categories = [row | {"image_count": 3} for row in categories]
    content = {"categories": categories, "images": rows, "annotations": []}
    return write_json(folder / "info.json", content)


def shown(records):
    """File name, size, vocab_id and box of each."""
    return [
        (
            "/".join(Path(r["file_name"]).parts[-2:]),
            (r["height"], r["width"]),
            *((a["category_id"], a["bbox"]) for a in r["annotations"]),
        )
        for r in records
    ]


@pytest.fixture
def labelled_file(tmp_path, boxes):
    for number in range(4):
        write_picture(tmp_path / f"inet/n0{number}/{number}.png", seed=number)
    images = {
        "n00/0.png": {"pos_category_ids": [9]},
        "n01/1.png": {"pos_category_ids": [2, 9]},  # the first counts
        "n02/2.png": {"pos_category_ids": [5], "width": None},  # its own size is taken
        "n03/3.png": {"pos_category_ids": [7]},
    }
    register_image_level("inet", tmp_path / "inet", detic_file(tmp_path, images))
    return images


WHOLE = [0.0, 0.0, 30.0, 20.0]


def test_a_file_in_detics_form(labelled_file):
    vocabulary = dataset_vocabulary("boxes")
    assert dataset_vocabulary("inet").dataset_ids == vocabulary.dataset_ids == (2, 5, 7, 9)
    records = get_image_level_records("inet", vocabulary)
    assert shown(records) == [
        ("n00/0.png", (20, 30), (CAN, WHOLE)),
        ("n01/1.png", (20, 30), (CROW, WHOLE)),
        ("n02/2.png", (20, 30), (BAND_AID, WHOLE)),
        ("n03/3.png", (20, 30), (OTHER_CROW, WHOLE)),
    ]
    assert all(record["image_level"] is True for record in records)
    assert all("image_level" not in record for record in get_training_records("boxes"))


def test_a_set_is_registered_like_any_other(labelled_file):
    assert shown(registered_records("inet")) == shown(get_training_records("inet"))
    assert len(get_image_level_records(["inet", "inet"], dataset_vocabulary("boxes"))) == 8
    with pytest.raises(ValueError, match="'boxes' is no image-level set"):
        get_image_level_records("boxes", dataset_vocabulary("boxes"))


def test_imagenet_of_lvis_has_a_name(tmp_path):
    write_picture(tmp_path / "imagenet/ImageNet-LVIS/n0/a.png")
    path = detic_file(tmp_path, {"n0/a.png": {"pos_category_ids": [5]}})
    folder = tmp_path / "imagenet/annotations"
    folder.mkdir()
    path.rename(folder / "imagenet_lvis_image_info.json")
    register_all(tmp_path)
    records = get_image_level_records("imagenet_lvis_v1", dataset_vocabulary("imagenet_lvis_v1"))
    assert shown(records) == [("n0/a.png", (20, 30), (BAND_AID, WHOLE))]
    register_all(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="expected layout: .*elsewhere/imagenet/"):
        registered_records("imagenet_lvis_v1")


def test_a_smaller_vocabulary_counts_names_and_skips(labelled_file, caplog, tmp_path):
    content = json.loads((tmp_path / "info.json").read_text())
    more = [
        {"id": 80 + n, "file_name": "n00/0.png", "pos_category_ids": [200 + n % 12]}
        for n in range(25)
    ]
    content["images"] += [row | {"width": 30, "height": 20} for row in more]
    content["images"].append({"id": 60, "file_name": "n00/0.png", "pos_category_ids": []})
    register_image_level("inet", tmp_path / "inet", write_json(tmp_path / "more.json", content))
    vocabulary = flat_vocabulary(["one", "crow", "three", "four", "Band_Aid"])  # ids 1 to 5
    with caplog.at_level(logging.WARNING, logger="cqdino_d2"):
        records = get_image_level_records("inet", vocabulary)
    assert shown(records) == [
        ("n01/1.png", (20, 30), (1, WHOLE)),
        ("n02/2.png", (20, 30), (4, WHOLE)),
    ]
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        "28 of 30 images have none of the vocabulary's 5 labels and are left out: 15 other" in said
    )
    assert said.count("'20") == 9 and "'(none)'" in said and "\n" not in said
    with pytest.raises(ValueError, match="'inet' has no image to train with: 30 of 30") as error:
        get_image_level_records("inet", flat_vocabulary(["one"]))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="'Band_Aid' is 2 here and 5 there"):
        get_image_level_records("inet", flat_vocabulary(["one", "Band_Aid"]))


@pytest.fixture
def folders(tmp_path, boxes):
    """A folder for each way to say a category, for one that is none, and what is no image."""
    root = tmp_path / "byclass"
    for number, (name, height, width) in enumerate(
        [
            ("aerosol can/a.png", 20, 31),
            ("crow.n.02/b.PNG", 22, 33),
            ("5/c.png", 24, 35),
            ("5/d.jpg", 26, 37),
            ("crow/e.png", 28, 39),  # of two categories
            ("owl/f.png", 28, 39),
            (".hidden/g.png", 28, 39),
        ]
    ):
        write_picture(root / name, height, width, seed=number)
    (root / "5/notes.txt").write_text("no image")
    (root / "5/deeper").mkdir()
    (root / "5/broken.png").write_bytes(b"no image either")
    (root / "list.txt").write_text("no folder")
    register_image_level("byclass", root, categories_of="boxes")
    return root


def test_a_folder_for_each_category(folders, caplog):
    with caplog.at_level(logging.WARNING, logger="cqdino_d2"):
        records = get_image_level_records("byclass", dataset_vocabulary("boxes"))
    found = {name: (size, *boxes) for name, size, *boxes in shown(records)}
    assert found == {
        "5/c.png": ((24, 35), (BAND_AID, [0.0, 0.0, 35.0, 24.0])),
        "5/d.jpg": ((26, 37), (BAND_AID, [0.0, 0.0, 37.0, 26.0])),
        "aerosol can/a.png": ((20, 31), (CAN, [0.0, 0.0, 31.0, 20.0])),
        "crow.n.02/b.PNG": ((22, 33), (OTHER_CROW, [0.0, 0.0, 33.0, 22.0])),
    }
    unread, unknown = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "1 images cannot be read" in unread and "broken.png" in unread
    assert "2 of 6 images" in unknown and "2 others, such as 'crow', 'owl'" in unknown


def test_folders_are_looked_through_once(folders, monkeypatch, tmp_path):
    vocabulary = dataset_vocabulary("boxes")
    first = shown(get_image_level_records("byclass", vocabulary))
    assert cache_places(folders)[0].is_file()
    heads = []
    real = class_folders.sizes_from_heads
    monkeypatch.setattr(
        class_folders, "sizes_from_heads", lambda names: heads.append(len(names)) or real(names)
    )
    records = get_image_level_records("byclass", vocabulary)
    assert shown(records) == first and heads == []
    write_picture(folders / "5/new.png", 10, 12)
    assert len(get_image_level_records("byclass", vocabulary)) == len(first) + 1
    assert heads == [6]
    with pytest.raises(ValueError, match="was replaced"):
        pickle.loads(pickle.dumps(records))
    content = json.loads((tmp_path / "a.json").read_text())
    content["categories"].append({"id": 11, "name": "owl"})
    write_json(tmp_path / "a.json", content)  # other categories: the folders mean others
    again = get_image_level_records("byclass", dataset_vocabulary("boxes"))
    assert len(again) == len(first) + 2 and heads == [6, 7]


def test_what_a_label_means():
    categories = [
        *CATEGORIES,
        {"id": 1, "name": "5"},
        {"id": 30},
        {"id": 31, "name": "AEROSOL CAN"},
    ]
    labels = ["aerosol_can", "AEROSOL CAN", "Aerosol Can", "5", "30", "crow", "2", "crow.n.01", "x"]
    found = ranks_of_labels(labels, categories)
    # 'Aerosol Can' is how two names may be spelt; '5' is a name before it is an id
    assert list(found.values()) == [0, 6, -1, 4, 5, -1, 1, 1, -1]


def test_what_cannot_be_registered_or_read(tmp_path, boxes):
    for wrong in ({}, {"json_file": tmp_path / "a.json", "categories_of": "boxes"}):
        with pytest.raises(ValueError, match="expected either a json_file"):
            register_image_level("wrong", tmp_path, **wrong)
    vocabulary = dataset_vocabulary("boxes")
    register_image_level("absent", tmp_path / "none", categories_of="boxes")
    with pytest.raises(FileNotFoundError, match="no such image folder"):
        get_image_level_records("absent", vocabulary)
    (tmp_path / "empty/crow").mkdir(parents=True)
    register_image_level("empty", tmp_path / "empty", categories_of="boxes")
    with pytest.raises(ValueError, match="holds no folder with images"):
        get_image_level_records("empty", vocabulary)
    path = write_json(tmp_path / "b.json", {"images": [{"id": 1, "pos_category_ids": 3}]})
    register_image_level("odd", tmp_path, path)
    with pytest.raises(ValueError, match=r"b\.json is not a list of images with 'pos_cat"):
        get_image_level_records("odd", vocabulary)
    register_image_level("odd", tmp_path, detic_file(tmp_path, {"a": {}}, categories=[]))
    with pytest.raises(ValueError, match="'categories' must be a list of objects, it is empty"):
        get_image_level_records("odd", vocabulary)
    outside = {"../a.png": {"pos_category_ids": [2]}}
    register_image_level("odd", tmp_path / "boxes", detic_file(tmp_path, outside))
    with pytest.raises(ValueError, match=r"'\.\./a\.png' leads out of"):
        get_image_level_records("odd", vocabulary)


def test_the_box_is_the_whole_image_whatever_its_size_was_said_to_be(labelled_file, tmp_path):
    records = get_image_level_records("inet", dataset_vocabulary("boxes"))
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "inet/n01/1.png")
    mapped = CategoryDatasetMapper(augmentations=[])(records[1])
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[0, 0, 50, 40]]
    assert mapped["instances"].gt_classes.tolist() == [CROW] and mapped["image_level"] is True


def test_columns_not_dicts(tmp_path, boxes, monkeypatch):
    """20,000 images: a few dozen bytes each, and a path for another process."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    (tmp_path / "none").mkdir()
    images = {f"n{i}/{i}.jpg": {"pos_category_ids": [2 + 7 * (i % 2)]} for i in range(20_000)}
    register_image_level("many", tmp_path / "none", detic_file(tmp_path, images))
    records = get_image_level_records("many", dataset_vocabulary("boxes"))
    assert len(records) == 20_000 and records[19_999]["annotations"][0]["category_id"] == CAN
    (cache,) = (tmp_path / "cache").glob("*info.json*")
    assert cache.stat().st_size < 20_000 * 150
    assert len(pickle.dumps(records)) < 20_000 * 15
    again = pickle.loads(pickle.dumps(records))
    assert again[123] == records[123]

"""Annotation files of COCO's, V3Det's and LVIS' layout, good and bad, as records."""

import json
import logging

import numpy as np
import pytest
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode

from cqdino_d2.annotations.box_columns import clip_boxes
from cqdino_d2.annotations.coco_format import read_coco_format
from cqdino_d2.annotations.columns import Annotations
from cqdino_d2.annotations.law import refuse_for_training
from cqdino_d2.data.records import Records

from ..annotation_sets import box_row, image_row, v3det_categories, write_json, write_picture


def base(**changes):
    return {
        "images": [image_row(1, "a.png"), image_row(2, "b.png")],
        "categories": v3det_categories(),
        "annotations": [box_row(1, 1, 1, [1, 2, 3, 4])],
        **changes,
    }


def load(path, folder):
    return Records.of_file(Annotations(*read_coco_format(path)), folder)


def test_v3det_records(v3det_root, caplog):
    caplog.set_level(logging.INFO)
    folder = v3det_root / "V3Det"
    path = folder / "annotations/v3det_2023_v1_train.json"
    records = load(path, folder)
    assert [record["image_id"] for record in records] == [10, 11, 12, 13]
    assert records[0]["file_name"] == str(folder / "images/n0/0.png")
    assert (records[0]["height"], records[0]["width"]) == (20, 30)
    first, second, third = records[0]["annotations"]
    assert first["bbox"] == second["bbox"] == [2, 3, 10, 5]
    assert (first["category_id"], second["category_id"]) == (0, 1)  # rank of the id, ascending
    assert first["bbox_mode"] == BoxMode.XYWH_ABS
    assert third["bbox"] == [25, 15, 5, 5]
    assert records[1]["annotations"] == []
    assert records[2]["annotations"][0]["iscrowd"] == 1
    assert "1 boxes clipped" in caplog.text
    assert "1 boxes dropped: outside the image" in caplog.text
    assert "2 boxes dropped: zero or negative size" in caplog.text


def test_agrees_with_detectron2_on_clean_boxes(tmp_path):
    rng = np.random.default_rng(0)
    images = [image_row(7 * i + 3, f"x/{i}.jpg") for i in rng.permutation(20).tolist()]
    annotations = [
        box_row(
            index,
            images[int(rng.integers(20))]["id"],
            int(rng.choice([1, 2, 3, 4])),
            (rng.integers(1, 40, 4) / 4).tolist(),
            iscrowd=int(rng.random() < 0.2),
        )
        for index in range(1, 200)
    ]
    path = write_json(tmp_path / "a.json", base(images=images, annotations=annotations))
    expected = load_coco_json(str(path), str(tmp_path), dataset_name=None)
    ranks = {1: 0, 2: 1, 3: 2, 4: 3}  # without a dataset's name it keeps the file's ids
    for record in expected:
        for annotation in record["annotations"]:
            annotation["category_id"] = ranks[annotation["category_id"]]
    ours = sorted(load(path, tmp_path), key=lambda record: record["image_id"])
    assert ours == sorted(expected, key=lambda record: record["image_id"])


def clip_one(box, height, width):
    """What happens to one box, in plain Python: the oracle."""
    x, y, w, h = box
    if not all(np.isfinite(box)):
        return None, "not finite"
    if w <= 0 or h <= 0:
        return None, "zero or negative size"
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if right <= left or bottom <= top:
        return None, "outside the image"
    if (left, top, right, bottom) == (x, y, x + w, y + h):
        return list(box), None
    return [left, top, right - left, bottom - top], "clipped"


def test_clipping_against_a_loop():
    rng = np.random.default_rng(1)
    boxes = rng.integers(-12, 25, (500, 4)).astype(float)
    boxes[rng.random(boxes.shape) < 0.03] = np.nan
    boxes[3, 2] = np.inf
    sizes = rng.integers(5, 20, (500, 2))
    clipped, events = clip_boxes(boxes, sizes)
    names = ("not finite", "zero or negative size", "outside the image", "clipped")
    for box, size, found, event in zip(boxes.tolist(), sizes, clipped, events, strict=True):
        expected, name = clip_one(box, *size.tolist())
        assert name == (None if event < 0 else names[event])
        if expected is not None:
            assert found.tolist() == expected


def test_lvis_file_names_and_fields(tmp_path):
    image = {
        "id": 397133,
        "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg",
        "height": 427,
        "width": 640,
        "neg_category_ids": [4],
        "not_exhaustive_category_ids": [2],
        "license": 4,
    }
    annotation = box_row(1, 397133, 1, [1, 2, 3, 4]) | {"segmentation": [[1, 2, 3, 4, 5, 6]]}
    del annotation["iscrowd"]  # LVIS has no crowd
    path = write_json(
        tmp_path / "lvis/lvis_v1_val.json", base(images=[image], annotations=[annotation])
    )
    (record,) = load(path, tmp_path / "coco")
    assert record["file_name"] == str(tmp_path / "coco/val2017/000000397133.jpg")
    assert record["neg_category_ids"] == [4]
    assert record["not_exhaustive_category_ids"] == [2]
    assert record["annotations"][0]["iscrowd"] == 0


def test_coco_ids_with_gaps_and_no_annotations(tmp_path):
    content = {
        "info": {},
        "images": [image_row(1, "a.png", coco_url="http://x/train2017/z.jpg")],
        "categories": [{"id": i, "name": str(i), "supercategory": "s"} for i in (90, 1, 13)],
    }
    path = write_json(tmp_path / "a.json", content)
    annotations = Annotations(*read_coco_format(path))
    assert [row["id"] for row in annotations.categories()] == [1, 13, 90]
    (record,) = load(path, tmp_path)
    assert record["annotations"] == []
    assert record["file_name"].endswith("a.png")


def test_a_list_of_test_images(tmp_path):
    path = write_json(tmp_path / "info.json", {"images": [image_row(1, "test/a.png")]})
    annotations = Annotations(*read_coco_format(path))
    assert not annotations.has_categories
    assert load(path, tmp_path)[0]["file_name"] == str(tmp_path / "test/a.png")


def test_image_ids_and_names_of_any_kind(tmp_path):
    names = ["ä/中.png", "b c.png", "d.png"]
    images = [image_row(i, name) for i, name in zip(("x", 5, "6"), names, strict=True)]
    images[0]["height"] = 20.0
    annotations = [box_row(i, image_id, 1, [1, 1, 2, 2]) for i, image_id in ((1, "6"), (2, "x"))]
    path = write_json(tmp_path / "a.json", base(images=images, annotations=annotations))
    records = load(path, tmp_path)
    assert [record["image_id"] for record in records] == ["x", 5, "6"]
    assert [len(record["annotations"]) for record in records] == [1, 0, 1]
    assert records[0]["file_name"] == str(tmp_path / names[0])
    assert records[0]["height"] == 20


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_cut_short_json(tmp_path, kept):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(base())[:kept])
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_coco_format(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [image_row(1, "a"), image_row(1, "b")]}, r"image ids are listed more.*\[1\]"),
        ({"images": [image_row(5, "a"), image_row("5", "a")]}, r"image ids are listed more"),
        ({"images": [image_row(1.5, "a")]}, "images: ids must be whole numbers or texts, got 1.5"),
        ({"images": [None]}, r"got `null` - at `\$.images"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1}]}, "category ids are listed more"),
        ({"categories": []}, "'categories' must be a list"),
        ({"categories": [{"name": "x"}]}, "'categories' must be a list"),
        ({"categories": [{"id": True}]}, "'categories' must be a list"),
        ({"categories": ["a", "b"]}, r"got `str` - at `\$.categories"),
        ({"annotations": [None]}, r"got `null` - at `\$.annotations"),
        ({"annotations": [{"id": 3, "image_id": 1, "category_id": 1}]}, "required field `bbox`"),
        (
            {"annotations": [box_row(7, 1, 1, [0] * 4) | {"bbox": [1, 2]}]},
            r"length 4.* - at `\$\.annotations\[0\]\.bbox",
        ),
        ({"annotations": [box_row(7, 1, 1, [0] * 4) | {"bbox": None}]}, "got `null` - at .*bbox"),
        ({"images": None}, r"at `\$.images"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])  # with a byte-order mark another parser reads it
def test_bad_content(tmp_path, changes, message, mark):
    path = tmp_path / "a.json"
    path.write_text(mark + json.dumps(base(**changes)), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_coco_format(path)
    assert "a.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [box_row(7, 1, 99, [1, 2, 3, 4])]}, "annotation 7 .*category id 99"),
        ({"annotations": [box_row(7, 5, 1, [1, 2, 3, 4])]}, "annotation 7 .*image 5.*not listed"),
        ({"images": [{"id": 1, "height": 2, "width": 2}]}, "image 1 has neither 'file_name'"),
        ({"images": [image_row(1, 5)]}, "image 1 has the 'file_name' 5, expected a text"),
    ],
)
def test_what_a_training_refuses(tmp_path, changes, message):
    path = write_json(tmp_path / "a.json", base(**changes))
    with pytest.raises(ValueError, match=message):
        refuse_for_training(Annotations(*read_coco_format(path)), str(path))


def as_floats(content):
    for row in content["images"]:
        row["id"] = float(row["id"])
    for row in content["categories"]:
        row["id"] = float(row["id"])
    for row in content["annotations"]:
        row |= {key: float(row[key]) for key in ("id", "image_id", "category_id", "iscrowd")}
    return content


def as_texts(content):
    for row in content["images"]:
        row["id"] = str(row["id"])
    for row in content["categories"]:
        row["id"] = str(row["id"])
    return content


@pytest.mark.parametrize("change", [as_floats, as_texts])
def test_other_spellings_are_the_same(tmp_path, change):
    boxes = [box_row(1, 1, 1, [1, 2, 3, 4]), box_row(2, 2, 4, [1, 2, 3, 4], iscrowd=1)]
    plain = load(write_json(tmp_path / "a.json", base(annotations=boxes)), tmp_path)
    other = load(write_json(tmp_path / "b.json", change(base(annotations=boxes))), tmp_path)
    for one, record in zip(plain, other, strict=True):
        assert str(record.pop("image_id")) == str(one.pop("image_id"))
        assert record == one


def test_ids_beyond_64_bits(tmp_path):
    image_ids, category_ids = (2**53 + 1, 2**64 + 3), (2**63 + 5, 2**63 + 4)
    content = base(
        images=[image_row(one, f"{one}.png") for one in image_ids],
        categories=[{"id": one, "name": str(one)} for one in category_ids],
        annotations=[box_row(1, image_ids[1], category_ids[1], [1, 2, 3, 4])],
    )
    path = write_json(tmp_path / "a.json", content)
    annotations = Annotations(*read_coco_format(path))
    records = load(path, tmp_path)
    assert [record["image_id"] for record in records] == list(image_ids)
    assert [len(record["annotations"]) for record in records] == [0, 1]
    assert records[1]["annotations"][0]["category_id"] == 0
    assert annotations.category_ids == tuple(sorted(category_ids))


def test_entries_that_only_repeat_another_one(tmp_path, caplog):
    content = base()
    content["images"].append(dict(content["images"][0]))
    content["categories"].append(dict(content["categories"][1]))
    assert len(load(write_json(tmp_path / "a.json", content), tmp_path)) == 2
    assert "1 image entries are repeated" in caplog.text
    assert "1 category entries are repeated" in caplog.text


def test_missing_sizes_come_from_the_images(tmp_path):
    write_picture(tmp_path / "a.png", height=7, width=11)
    write_picture(tmp_path / "b.png", height=5, width=6)
    content = base()
    for image in content["images"]:
        del image["width"]
    content["images"][1] |= {"width": 0, "height": None}
    content["annotations"][0]["bbox"] = [-1, 2, 30, 40]
    path = write_json(tmp_path / "a.json", content)
    records = load(path, tmp_path)
    assert records.sizes().tolist() == [[7, 11], [5, 6]]
    assert (records[1]["height"], records[1]["width"]) == (5, 6)
    assert records[0]["annotations"][0]["bbox"] == [0, 2, 29, 40]  # the mapper knows the image
    (tmp_path / "b.png").unlink()
    with pytest.raises(ValueError, match="image 2 has no 'height' and 'width', and its file"):
        load(path, tmp_path)


def test_null_lists_and_lists_with_unknown_categories(tmp_path):
    images = [
        image_row(1, "a", neg_category_ids=None, not_exhaustive_category_ids=[4.0, 99, "2"]),
        image_row(2, "b", neg_category_ids=[3], not_exhaustive_category_ids=[]),
    ]
    records = load(write_json(tmp_path / "a.json", base(images=images)), tmp_path)
    assert [record["neg_category_ids"] for record in records] == [[], [3]]
    assert [record["not_exhaustive_category_ids"] for record in records] == [[4, 2], []]


@pytest.mark.parametrize("content", [[1, 2], {}, {"info": {}, "images": []}, 3])
def test_other_json(tmp_path, content):
    path = write_json(tmp_path / "a.json", content)
    with pytest.raises(ValueError, match="not in the COCO format"):
        read_coco_format(path)


def test_a_box_that_is_not_finite_is_dropped(tmp_path, caplog):
    rows = [box_row(1, 1, 1, [1, 2, float("nan"), 4]), box_row(2, 1, 2, [1, 2, 3, 4])]
    path = write_json(tmp_path / "a.json", base(annotations=rows))
    _, facts = read_coco_format(path)
    assert facts["annotations"] == 2 and facts["events"] == {"not finite": 1}
    assert facts["endless_boxes"] == [1, [1]]
    assert [a["category_id"] for a in load(path, tmp_path)[0]["annotations"]] == [1]
    assert "1 boxes dropped: not finite" in caplog.text


def test_byte_order_mark(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(base()), encoding="utf-8-sig")
    assert len(load(path, tmp_path)) == 2


def test_categories_keep_their_fields(tmp_path):
    rows = v3det_categories()
    rows[0]["cat_info"] = 'it says "categories": [{"id": 5}] here, ä中'
    path = write_json(tmp_path / "a.json", base(categories=rows))
    found = Annotations(*read_coco_format(path)).categories()
    assert found == sorted(rows, key=lambda row: row["id"])


def test_half_of_a_surrogate_pair_names_the_file(tmp_path):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "\ud800"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.json: a category holds half of a surrogate pair"):
        read_coco_format(tmp_path / "a.json")

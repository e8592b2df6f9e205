import json
import logging

import pytest
from detectron2.structures import BoxMode

from cqdino_d2.data import coco_format
from cqdino_d2.data.coco_format import load_coco_format, read_categories

from .conftest import box_row, image_row, v3det_categories, write_json


def base(**changes):
    return {
        "images": [image_row(1, "a.png"), image_row(2, "b.png")],
        "categories": v3det_categories(),
        "annotations": [box_row(1, 1, 1, [1, 2, 3, 4])],
        **changes,
    }


def test_v3det_records(v3det_root, caplog):
    caplog.set_level(logging.INFO)
    folder = v3det_root / "V3Det"
    path = folder / "annotations/v3det_2023_v1_train.json"
    records = load_coco_format(path, folder)
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


def test_lvis_file_names_and_fields(tmp_path):
    (tmp_path / "coco").mkdir()
    content = base(
        images=[
            {
                "id": 397133,
                "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg",
                "height": 427,
                "width": 640,
                "neg_category_ids": [4],
                "not_exhaustive_category_ids": [2],
                "license": 4,
            }
        ],
        annotations=[],
    )
    path = write_json(tmp_path / "lvis/lvis_v1_val.json", content)
    (record,) = load_coco_format(path, tmp_path / "coco")
    assert record["file_name"] == str(tmp_path / "coco/val2017/000000397133.jpg")
    assert record["neg_category_ids"] == [4]
    assert record["not_exhaustive_category_ids"] == [2]


def test_coco_ids_with_gaps_and_no_annotations(tmp_path):
    content = {
        "info": {},
        "images": [image_row(1, "a.png", coco_url="http://x/train2017/z.jpg")],
        "categories": [{"id": i, "name": str(i), "supercategory": "s"} for i in (90, 1, 13)],
    }
    path = write_json(tmp_path / "a.json", content)
    assert [row["id"] for row in read_categories(path)] == [1, 13, 90]
    (record,) = load_coco_format(path, tmp_path)
    assert record["annotations"] == []
    assert record["file_name"].endswith("a.png")


def test_missing_files_name_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json.*expected layout: ROOT/x"):
        load_coco_format(tmp_path / "gone.json", tmp_path, layout="ROOT/x")
    path = write_json(tmp_path / "a.json", base())
    with pytest.raises(FileNotFoundError, match="no such image folder.*nowhere"):
        load_coco_format(path, tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_cut_short_json(tmp_path, kept):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(base())[:kept])
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        load_coco_format(path, tmp_path)


def test_cut_short_json_has_no_categories(tmp_path):
    text = json.dumps(base())
    path = tmp_path / "a.json"
    path.write_text(text[: text.index('"categories"') + 40])
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_categories(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [box_row(7, 1, 99, [1, 2, 3, 4])]}, "annotation 7 .*category id 99"),
        ({"annotations": [box_row(7, 5, 1, [1, 2, 3, 4])]}, "annotation 7 .*image 5.*not listed"),
        ({"images": [image_row(1, "a"), image_row(1, "b")]}, "image id 1 is listed more than once"),
        ({"images": [{"id": 1, "height": 2, "width": 2}]}, "neither 'file_name' nor 'coco_url'"),
        ({"images": [{"id": 1, "file_name": "a", "width": 2}]}, "lacks the field 'height'"),
        ({"categories": v3det_categories() * 2}, "category ids are listed more than once"),
        ({"categories": []}, "'categories' must be a list"),
        ({"annotations": [{"id": 3, "image_id": 1, "category_id": 1}]}, "lacks the field 'bbox'"),
        ({"annotations": [box_row(7, 1, 1, [0] * 4) | {"bbox": [1, 2]}]}, "annotation 7 .*four"),
        ({"annotations": [box_row(7, 1, 1, [0] * 4) | {"bbox": None}]}, "annotation 7 .*None"),
    ],
)
def test_bad_content(tmp_path, changes, message):
    path = write_json(tmp_path / "a.json", base(**changes))
    with pytest.raises(ValueError, match=message) as caught:
        load_coco_format(path, tmp_path)
    assert "a.json" in str(caught.value)


def test_other_json(tmp_path):
    path = write_json(tmp_path / "a.json", [1, 2])
    with pytest.raises(ValueError, match="not in the COCO format"):
        load_coco_format(path, tmp_path)


def test_a_box_that_is_not_finite_is_dropped(tmp_path, caplog):
    path = write_json(
        tmp_path / "a.json", base(annotations=[box_row(1, 1, 1, [1, 2, float("nan"), 4])])
    )
    assert load_coco_format(path, tmp_path)[0]["annotations"] == []
    assert "1 boxes dropped: not finite" in caplog.text


def test_byte_order_mark(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(base()), encoding="utf-8-sig")
    assert len(load_coco_format(path, tmp_path)) == 2
    assert len(read_categories(path)) == 4


def test_categories_are_found_without_being_fooled(tmp_path):
    tricky = v3det_categories()
    tricky[0]["cat_info"] = 'it says "categories": [{"id": 5}] here'
    path = write_json(tmp_path / "a.json", base(categories=tricky))
    assert [row["id"] for row in read_categories(path)] == [1, 2, 3, 4]
    nested = [image_row(1, "a.png", categories=[{"id": 77}])]
    path = write_json(tmp_path / "b.json", base(images=nested))
    assert [row["id"] for row in read_categories(path)] == [1, 2, 3, 4]


def test_categories_longer_than_the_first_window(tmp_path, monkeypatch):
    rows = [{"id": i, "name": "\u00e4\u4e2d" * 5} for i in range(1, 200)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(base(categories=rows), ensure_ascii=False), encoding="utf-8")
    expected = read_categories(path)
    for window in range(1, 9):
        monkeypatch.setattr(coco_format, "_FIRST_WINDOW", window)
        assert read_categories(path) == expected == rows

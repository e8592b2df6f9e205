"""The images of annotation files as people have them."""

import gzip
import json

import pytest

from cqdino_d2.annotations import image_table

IMAGES = [
    {"id": 7, "file_name": "video1/frame_0.png", "height": 20, "width": 30},
    {"id": "b", "file_name": "video2/frame_0.png"},
    {"id": 3.0, "coco_url": "http://x.org/val2017/1.jpg", "height": 4.0, "width": "5"},
]
CONTENT = {"images": IMAGES, "annotations": [None], "categories": 5}


def write(path, content=CONTENT, encoding="utf-8"):
    text = json.dumps(content).encode(encoding)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_ids_names_and_sizes(tmp_path, name, encoding):
    table = image_table(write(tmp_path / name, encoding=encoding))
    assert table.ids == (7, "b", 3) and type(table.ids[2]) is int
    assert table.file_names == ("video1/frame_0.png", "video2/frame_0.png", "val2017/1.jpg")
    assert table.sizes == ((20, 30), None, (4, 5))
    assert len(table) == 3


@pytest.mark.parametrize("height", [0, -3, None, "x", "", 1e300, 2**40])
def test_sizes_that_are_none(tmp_path, height):
    image = {"id": 1, "file_name": "a", "height": height, "width": 3}
    assert image_table(write(tmp_path / "a.json", {"images": [image]})).sizes == (None,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "is not in the COCO format: Expected `object`, got `array`"),
        ({"annotations": []}, "missing required field `images`"),
        ({"images": None}, r"got `null` - at `\$.images`"),
        ({"images": [None]}, r"got `null` - at `\$.images\[0\]`"),
        ({"images": [{"id": 1}]}, "image 1 has neither 'file_name' nor 'coco_url'"),
        ({"images": [{"id": 1, "file_name": 5}]}, "image 1 has the 'file_name' 5, expected a text"),
        ({"images": [{"id": 1.5, "file_name": "a"}]}, "whole numbers or texts, got 1.5"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        image_table(write(tmp_path / "a.json", content))
    assert "a.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [3000, 300_000])
@pytest.mark.parametrize("mark", ["", "\ufeff", '{"x": NaN, "y": '])
def test_deep_nesting_is_one_line(tmp_path, depth, mark):
    path = tmp_path / "a.json"
    path.write_text(mark + '{"info": ' + "[" * depth, encoding="utf-8")
    with pytest.raises(ValueError, match="nested too deeply"):
        image_table(path)


def test_damaged_and_cut_files(tmp_path):
    path = write(tmp_path / "a.json.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged gzip file"):
        image_table(path)
    text = json.dumps(CONTENT)
    for cut in (0, 1, 30, len(text) - 1):
        (tmp_path / "b.json").write_text(text[:cut])
        with pytest.raises(ValueError, match=r"b\.json is not valid JSON \(cut short\?\)"):
            image_table(tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(b'{"images": [{"id": 1, "file_name": "\xff"}]}')
    with pytest.raises(ValueError, match=r"c\.json is not valid JSON"):
        image_table(tmp_path / "c.json")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_table(tmp_path / "nowhere.json")

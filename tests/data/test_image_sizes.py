"""Images whose size the annotations do not tell, or tell wrongly."""

import pytest
from PIL import Image

from cqdino_d2.data import get_test_records, get_training_records, register_coco_like
from cqdino_d2.data.image_sizes import check_sizes, stored_and_upright_size, wrong_size

from ..annotation_sets import box_row, image_row, v3det_categories, write_json, write_picture


def make_set(folder, count=6, **sizes):
    for index in range(count):
        write_picture(folder / f"images/{index}.png", height=20, width=30, seed=index)
    content = {
        "images": [image_row(i, f"{i}.png") | sizes for i in range(count)],
        "categories": v3det_categories(),
        "annotations": [box_row(i + 1, i, 1, [1, 2, 3, 4]) for i in range(count)],
    }
    register_coco_like("mine", write_json(folder / "a.json", content), folder / "images")


def test_right_sizes_pass(tmp_path):
    make_set(tmp_path)
    assert len(get_training_records("mine")) == len(get_test_records("mine")) == 6
    (tmp_path / "images/3.png").unlink()
    assert len(get_training_records("mine")) == 6, "a missing image is the mapper's to name"


@pytest.mark.parametrize("read", [get_training_records, get_test_records])
@pytest.mark.parametrize("sizes", [{"height": 30, "width": 20}, {"height": 21}, {"width": 5}])
def test_wrong_sizes_are_refused_before_a_training(tmp_path, read, sizes):
    make_set(tmp_path, **sizes)
    with pytest.raises(ValueError, match=r"6 of 6 images looked at .*0\.png is 30 x 20, its") as e:
        read("mine")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("sizes", [{"height": None}, {"height": 0, "width": 0}])
def test_absent_sizes_are_taken_from_the_images(tmp_path, sizes):
    make_set(tmp_path, **sizes)
    records = get_training_records("mine")
    assert {(record["height"], record["width"]) for record in records} == {(20, 30)}


def test_an_image_on_its_side_has_both_sizes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert stored_and_upright_size(str(path)) == ((20, 30), (30, 20))
    record = {"image_id": 1, "file_name": str(path)}
    for height, width in ((20, 30), (30, 20)):
        assert wrong_size(record | {"height": height, "width": width}) == ""
    assert "a.jpg is 20 x 30, its" in wrong_size(record | {"height": 20, "width": 31})


def test_the_sample_is_spread_and_bounded(tmp_path, monkeypatch):
    opened = []
    records = [{"number": number} for number in range(1000)]
    monkeypatch.setattr(
        "cqdino_d2.data.image_sizes.wrong_size", lambda record: opened.append(record["number"])
    )
    check_sizes(records, most=5)
    assert opened == [0, 249, 499, 749, 999]
    check_sizes([])

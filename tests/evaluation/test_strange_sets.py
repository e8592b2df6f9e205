"""Strange annotations are read, or refused by name, alike for training and evaluation."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from cqdino_d2.data import register_coco_like
from cqdino_d2.evaluation import CocoProtocol, load_ground_truth, load_results


def content():
    images = [{"id": n, "file_name": f"{n}.png", "width": 90, "height": 60} for n in (1, 2, 3)]
    boxes = [
        {"id": n, "image_id": n, "category_id": n % 2 + 1, "bbox": [5 * n, 4, 30, 20], "area": 600}
        for n in (1, 2, 3)
    ]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    return {"images": images, "annotations": boxes, "categories": categories}


def results_of(content):
    keys = ("image_id", "category_id", "bbox")
    return [{key: box[key] for key in keys} | {"score": 0.9} for box in content["annotations"]]


READ = {
    "names that repeat": lambda c: c["categories"][1].update(name="a"),
    "names that are none": lambda c: c["categories"][1].update(name=None),
    "numbers as names": lambda c: c["categories"][1].update(name=7, supercategory=3),
    "text among numbers": lambda c: (
        c["images"][0].update(id="1"),
        c["annotations"][0].update(image_id="1"),
    ),
    "negative ids": lambda c: (
        c["images"][0].update(id=-5),
        c["annotations"][0].update(image_id=-5),
    ),
    "crowds as truth values": lambda c: c["annotations"][0].update(iscrowd=False),
    "crowds that are none": lambda c: c["annotations"][0].update(iscrowd=None),
    "areas that are none": lambda c: c["annotations"][0].update(area=None),
    "a strange mask": lambda c: c["annotations"][0].update(segmentation={"counts": 5}),
    "other tables": lambda c: c.update(info=None, licenses=5, videos={}),
    "one file for two images": lambda c: c["images"][1].update(file_name="1.png"),
}
REFUSED = {
    "another image with the id": lambda c: c["images"][1].update(id=1),
    "the same id as a text": lambda c: c["images"][1].update(id="1"),
    "another category with the id": lambda c: c["categories"][1].update(id=1),
    "an id that is a truth value": lambda c: c["images"][0].update(id=True),
    "no id": lambda c: c["categories"][0].update(id=None),
    "five numbers": lambda c: c["annotations"][0]["bbox"].append(3),
    "numbers as texts": lambda c: c["annotations"][0].update(bbox=["1", "2", "3", "4"]),
    "truth values": lambda c: c["annotations"][0].update(bbox=[True] * 4),
    "no box": lambda c: c["annotations"][0].pop("bbox"),
    "an area that is a text": lambda c: c["annotations"][0].update(area="12"),
    "a crowd that is a text": lambda c: c["annotations"][0].update(iscrowd="0"),
    "no table": lambda c: c.update(images=None),
}


@pytest.fixture
def changed(tmp_path):
    """Writes the set with a change and registers it; its path."""

    def write(change):
        data = content()
        change(data)
        (tmp_path / "a.json").write_text(json.dumps(data))
        register_coco_like("strange", tmp_path / "a.json", tmp_path)
        return data, tmp_path / "a.json"

    yield write
    DatasetCatalog.pop("strange")
    MetadataCatalog.pop("strange", None)


@pytest.mark.parametrize("change", READ.values(), ids=READ)
def test_it_is_read_by_all(changed, tmp_path, change):
    data, path = changed(change)
    assert [len(record["annotations"]) for record in DatasetCatalog.get("strange")] == [1, 1, 1]
    (tmp_path / "r.json").write_text(json.dumps(results_of(data)))
    truth = load_ground_truth(path)
    scores = CocoProtocol().evaluate(truth, load_results(tmp_path / "r.json", truth))
    assert scores.figures["AP"] == pytest.approx(100)


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_it_is_refused_by_all(changed, change):
    _, path = changed(change)
    for read in (load_ground_truth, lambda _: DatasetCatalog.get("strange")):
        with pytest.raises(ValueError, match=r"a\.json") as found:
            read(path)
        assert "\n" not in str(found.value)

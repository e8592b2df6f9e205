import json
import os
import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from cqdino_d2.data import registration
from cqdino_d2.data.registration import dataset_vocabulary, register_all, register_coco_like

from .conftest import box_row, image_row, write_json, write_picture


def test_importing_registers_nothing():
    code = (
        "from detectron2.data import DatasetCatalog as D; before = set(D.keys());"
        "import cqdino_d2.data.registration, cqdino_d2.data.loader;"
        "assert set(D.keys()) == before"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_registering_opens_no_file(tmp_path):
    register_all(tmp_path / "nowhere")
    assert "v3det_train" in DatasetCatalog
    assert "cq_coco_2017_val" in DatasetCatalog
    with pytest.raises(
        FileNotFoundError, match=r"v3det_2023_v1_train\.json; expected layout: .*V3"
    ):
        DatasetCatalog.get("v3det_train")
    with pytest.raises(FileNotFoundError, match="make_emojidet"):
        dataset_vocabulary("emojidet_val")


def test_metadata_is_filled_on_first_use(v3det_root):
    register_all(v3det_root)
    metadata = MetadataCatalog.get("v3det_train")
    assert metadata.evaluator_type == "v3det"
    assert metadata.image_root == str(v3det_root / "V3Det")
    assert metadata.tree_file.endswith("v3det_2023_v1_category_tree.json")
    assert not hasattr(metadata, "thing_classes")
    assert len(DatasetCatalog.get("v3det_train")) == 4
    assert metadata.thing_classes == ["dog", "animal", "dog", "watch"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1, 3: 2, 4: 3}
    assert metadata.novel == [False, True, False, True]


def test_registering_again(v3det_root, tmp_path, monkeypatch):
    register_all(v3det_root)
    dataset_vocabulary("v3det_train")
    register_all(v3det_root)
    assert len(MetadataCatalog.get("v3det_train").thing_classes) == 4
    register_all(tmp_path / "other")
    assert MetadataCatalog.get("v3det_train").image_root == str(tmp_path / "other/V3Det")
    assert not hasattr(MetadataCatalog.get("v3det_train"), "thing_classes")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(v3det_root))
    register_all()
    assert len(dataset_vocabulary("v3det_train")) == 4


def test_vocabulary_of_v3det(v3det_root):
    register_all(v3det_root)
    vocabulary = dataset_vocabulary("v3det_train")
    assert vocabulary.names == ("dog", "animal", "dog", "watch")
    assert vocabulary.dataset_ids == (1, 2, 3, 4)
    assert vocabulary.hierarchy.category_ancestors[0].tolist() == [1]
    assert dataset_vocabulary("v3det_train") is vocabulary


def test_vocabulary_follows_a_changed_file(v3det_root):
    register_all(v3det_root)
    dataset_vocabulary("v3det_train")
    path = v3det_root / "V3Det/annotations/v3det_2023_v1_train.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "beast"
    write_json(path, content)
    os.utime(path, (1, 1))
    assert dataset_vocabulary("v3det_train").names[1] == "beast"
    assert MetadataCatalog.get("v3det_train").thing_classes[1] == "beast"


def test_big_files_are_parsed_once(v3det_root, monkeypatch):
    from cqdino_d2.data import coco_format

    parsed = []
    read_json = coco_format.read_json
    monkeypatch.setattr(
        coco_format, "read_json", lambda path: parsed.append(str(path)) or read_json(path)
    )
    register_all(v3det_root)
    dataset_vocabulary("v3det_train")
    DatasetCatalog.get("v3det_train")
    assert len(parsed) == 1


def test_own_data_set_with_frequency(tmp_path):
    write_picture(tmp_path / "pictures/a.png")
    rows = [{"id": 7, "name": "x", "frequency": "r"}, {"id": 3, "name": "y", "frequency": "f"}]
    content = {
        "images": [image_row("one", "a.png")],
        "categories": rows,
        "annotations": [box_row(1, "one", 7, [1, 1, 2, 2])],
    }
    path = write_json(tmp_path / "own.json", content)
    register_coco_like("own", path, tmp_path / "pictures", evaluator_type="lvis")
    register_coco_like("own", path, tmp_path / "pictures", evaluator_type="lvis")
    assert len(dataset_vocabulary("own").hierarchy.category_ancestors[0]) == 0
    assert MetadataCatalog.get("own").frequency == ["f", "r"]
    assert MetadataCatalog.get("own").evaluator_type == "lvis"
    assert DatasetCatalog.get("own")[0]["annotations"][0]["category_id"] == 1


def test_names_of_others_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'coco_2017_val' is registered by someone else"):
        register_coco_like("coco_2017_val", tmp_path / "a.json", tmp_path)
    assert "coco_2017_val" not in registration._sources


def test_unknown_name():
    with pytest.raises(ValueError, match="'nothing' is not registered"):
        dataset_vocabulary("nothing")

import json
import os
import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from cqdino_d2.data import registration
from cqdino_d2.data.registration import dataset_vocabulary, register_all, register_coco_like

from ..annotation_sets import box_row, image_row, write_json, write_picture


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
    from cqdino_d2.annotations import cache as annotation_cache

    parsed = []
    read = annotation_cache.read_coco_format
    monkeypatch.setattr(
        annotation_cache, "read_coco_format", lambda path: parsed.append(path) or read(path)
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


def own_set(folder, name, categories, tree=None, **arguments):
    write_picture(folder / "a.png")
    content = {
        "images": [image_row(1, "a.png")],
        "categories": categories,
        "annotations": [box_row(1, 1, categories[-1]["id"], [1, 1, 2, 2])],
    }
    path = write_json(folder / f"{name}.json", content)
    register_coco_like(name, path, folder, tree, **arguments)


def test_a_set_with_an_edge_list(tmp_path):
    (tmp_path / "tree.txt").write_text("animal.n.01 dog.n.01\nanimal.n.01 cat.n.01\n")
    rows = [
        {"id": 4, "name": "Dog", "synset": "dog.n.01", "def": "barks"},
        {"id": 9, "synset": "animal.n.01"},
    ]
    own_set(tmp_path, "own", rows, tmp_path / "tree.txt", tree_node_field="synset")
    vocabulary = dataset_vocabulary("own")
    assert vocabulary.names == ("Dog", "category 9")
    assert vocabulary.hierarchy.category_ancestors[0].tolist() == [1]
    metadata = MetadataCatalog.get("own")
    assert metadata.descriptions == ["barks", ""]
    assert metadata.hierarchy is vocabulary.hierarchy
    own_set(tmp_path, "other", rows, tmp_path / "tree.txt", tree_node_field="node")
    with pytest.raises(ValueError, match=r"2 categories have no field 'node'.*\[4, 9\]"):
        dataset_vocabulary("other")


def test_the_vocabulary_of_several_sets(tmp_path):
    rows = [{"id": i, "name": name} for i, name in ((2, "a"), (5, "b"), (8, "c"))]
    own_set(tmp_path, "some", rows[1:])
    own_set(tmp_path, "all", rows)
    own_set(tmp_path, "further", [*rows[:1], {"id": 9, "name": "d"}])
    own_set(tmp_path, "foreign", [{"id": 5, "name": "zebra"}])
    assert dataset_vocabulary(["some", "all"]) is dataset_vocabulary("all")
    assert dataset_vocabulary(["some"]) is dataset_vocabulary("some")
    with pytest.raises(ValueError, match=r"none of .*'further'.*\[3, 2\] categories, 4 together"):
        dataset_vocabulary(["all", "further"])
    with pytest.raises(ValueError, match="category id 5 is 'b' in 'all' and 'zebra' in 'foreign'"):
        dataset_vocabulary(["all", "foreign"])
    with pytest.raises(ValueError, match="no dataset is named"):
        dataset_vocabulary([])


def test_test_images_without_categories(v3det_root):
    content = {"images": [image_row(1, "test/a.png")]}
    folder = v3det_root / "V3Det"
    write_json(folder / "annotations/v3det_2023_v1_test_image_info.json", content)
    register_all(v3det_root)
    (record,) = DatasetCatalog.get("v3det_test")
    assert record["file_name"] == str(folder / "test/a.png")
    with pytest.raises(ValueError, match=r"test_image_info\.json lists no categories"):
        dataset_vocabulary("v3det_test")


def test_missing_images_name_the_layout(v3det_root, tmp_path):
    register_all(v3det_root)
    path = v3det_root / "V3Det/annotations/v3det_2023_v1_train.json"
    register_coco_like("own", path, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such image folder: .*nowhere"):
        DatasetCatalog.get("own")
    assert len(dataset_vocabulary("own")) == 4


def test_images_outside_the_root_need_an_option(tmp_path):
    (tmp_path / "images").mkdir()
    write_picture(tmp_path / "a.png")
    image = image_row(1, "../a.png")
    content = {
        "images": [image],
        "annotations": [box_row(1, 1, 1, [0, 0, 5, 5])],
        "categories": [{"id": 1, "name": "a"}],
    }
    path = write_json(tmp_path / "a.json", content)
    register_coco_like("outside", path, tmp_path / "images")
    with pytest.raises(ValueError, match=r"a\.json: 1 of 1 images lie outside .*outside_root=True"):
        DatasetCatalog.get("outside")
    register_coco_like("outside", path, tmp_path / "images", outside_root=True)
    file_name = DatasetCatalog.get("outside")[0]["file_name"]
    assert os.path.samefile(file_name, tmp_path / "a.png")

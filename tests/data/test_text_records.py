import json
import pickle

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from cqdino_d2.annotations.odinw import ODINW13, ODINW35, Wording
from cqdino_d2.data import (
    CategoryDatasetMapper,
    build_test_loader,
    dataset_vocabulary,
    get_prompted_records,
    get_test_records,
    register_all,
    register_odvg,
    registered_annotations,
    registered_prompt,
    registered_records,
    text_vocabulary,
)
from cqdino_d2.data.registration import registered_texts
from cqdino_d2.data.text_prompts import names_in_order, prompt_of_names, prompt_of_text
from cqdino_d2.evaluation import build_evaluator
from cqdino_d2.structures import TextPrompt

from ..annotation_sets import write_json, write_picture
from ..odvg_sets import NAMES, write_odvg
from ..text_sets import SIZE, odinw_set, write_odinw_set, write_text_sets


@pytest.fixture
def text_root(tmp_path):
    register_all(write_text_sets(tmp_path))
    return tmp_path


def test_a_record_for_each_expression(text_root):
    records = DatasetCatalog.get("refcoco_val")
    assert len(records) == 5
    assert MetadataCatalog.get("refcoco_val").evaluator_type == "refexp"
    record = records[1]
    assert record["file_name"] == str(text_root / "coco/train2014/COCO_train2014_1.png")
    assert record["prompt"] == TextPrompt("A dog, sleeping.")
    assert (record["image_id"], record["height"], record["width"]) == (11, *SIZE)
    assert record["dataset_name"] == "refcoco"
    assert record["annotations"] == [
        {"bbox": [10, 5, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
    ]
    captions = [record["prompt"].caption for record in records]
    assert captions[2:] == ["red ball.", "who is that?", "the ball."]
    assert pickle.loads(pickle.dumps(records))[-1]["image_id"] == 14
    with pytest.raises(IndexError):
        records[5]


def test_targets_and_phrases(text_root):
    counts = [len(record["annotations"]) for record in registered_records("grefcoco_val")]
    assert counts == [2, 1, 0, 0]
    records = registered_records("flickr30k_val")
    assert [record["image_id"] for record in records] == [0, 2]
    prompt = records[1]["prompt"]
    assert prompt.caption == "Two dogs and a ball."
    assert [prompt.words(phrase) for phrase in (0, 1)] == ["Two dogs", "a ball"]
    assert [a["category_id"] for a in records[1]["annotations"]] == [1, 0, 0]


def test_images_are_found_in_a_folder_of_the_split(text_root):
    folder = text_root / "flickr30k_entities/flickr30k_images"
    (folder / "val").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "val" / path.name)
    assert registered_records("flickr30k_val")[0]["file_name"] == str(folder / "val/0.png")


def test_sizes_that_are_not_told_come_with_the_image(text_root):
    path = text_root / "coco/mdetr_annotations/finetune_refcoco_val.json"
    content = json.loads(path.read_text())
    for row in content["images"]:
        del row["height"]
    write_json(path, content)
    records = get_test_records("refcoco_val")
    assert "height" not in records[0]
    mapped = CategoryDatasetMapper(augmentations=[], is_train=False)(records[0])
    assert (mapped["height"], mapped["width"]) == SIZE
    assert mapped["prompt"].caption == "the left dog."


def test_wrong_sizes_are_refused(text_root):
    write_picture(text_root / "coco/train2014/COCO_train2014_0.png", 50, 80)
    with pytest.raises(ValueError, match=r"0\.png is 80 x 50, its annotations say 80 x 60"):
        get_test_records("refcoco_val")


def test_names_that_lead_out_of_the_folder_are_refused(text_root):
    path = text_root / "coco/mdetr_annotations/finetune_refcoco_val.json"
    content = json.loads(path.read_text())
    content["images"][3]["file_name"] = "../../etc/x.png"
    write_json(path, content)
    with pytest.raises(ValueError, match=r"finetune_refcoco_val\.json: the file name .* leads out"):
        registered_records("refcoco_val")


def test_a_set_of_texts_has_no_categories(text_root):
    assert dataset_vocabulary("refcoco_val") is text_vocabulary()
    assert text_vocabulary().names == ("text",)
    with pytest.raises(ValueError, match="'refcoco_val' is a set of texts"):
        registered_annotations("refcoco_val")


def test_missing_files_name_the_layout(tmp_path):
    register_all(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"final_refexp_val\.json; expected layout: .*/coco"
    ):
        registered_records("refexp_val")
    with pytest.raises(FileNotFoundError, match=r"pothole/valid/anno.*layout: .*odinw/pothole"):
        registered_records("odinw13_pothole")


def test_several_sets_and_their_prompts(tmp_path, caplog):
    register_all(write_text_sets(tmp_path))
    write_odinw_set(tmp_path, "pothole/valid", odinw_set(["pothole"], [0, 1]))
    write_odinw_set(
        tmp_path,
        "pistols/export",
        odinw_set(["pistol"], [0]),
        "val_annotations_without_background.json",
    )
    names = ["odinw13_pothole", "refcoco_val", "odinw13_Raccoon", "odinw13_pistols"]
    records = get_prompted_records(names)
    assert len(records) == 2 + 5 + 1
    assert [record["set_name"] for record in records] == (
        ["odinw13_pothole"] * 2 + ["refcoco_val"] * 5 + ["odinw13_pistols"]
    )
    assert records[0]["prompt"] == TextPrompt("pothole.", (((0, 7),),), (0,))
    assert records[2]["prompt"] == TextPrompt("the left dog.")
    assert records[-1]["prompt"].caption == "pistol."
    assert records[-1]["file_name"] == str(tmp_path / "odinw/pistols/export/0.png")
    assert "the dataset 'odinw13_Raccoon' is left out: no such file" in caplog.text
    said = get_prompted_records("odinw13_pothole", wordings=True)[0]["prompt"]
    assert said.caption == "there are some holes on the road."
    assert said.words(0) == "holes"
    mapper = CategoryDatasetMapper(augmentations=[], is_train=False)
    batches = list(build_test_loader(dataset=records, mapper=mapper, num_workers=0, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert batches[-1][-1]["prompt"].caption == "pistol."


def test_no_set_is_there(tmp_path):
    register_all(tmp_path)
    with pytest.raises(FileNotFoundError, match="none of the 2 datasets is there; of 'odinw35_d"):
        get_prompted_records(["odinw35_dice", "odinw35_BCCD"])
    with pytest.raises(ValueError, match="no dataset is named"):
        get_prompted_records([])


def test_categories_are_called_what_the_benchmark_calls_them(tmp_path):
    register_all(tmp_path)
    folder = ODINW13["NorthAmericaMushrooms"].folder + "/valid"
    write_odinw_set(tmp_path, folder, odinw_set(["CoW", "chanterelle"], [0]))
    assert dataset_vocabulary("odinw13_NorthAmericaMushrooms").names == ("CoW", "chanterelle")
    by_name = dataset_vocabulary("odinw35_NorthAmericaMushrooms")
    assert by_name.names == ("flat mushroom", "yellow mushroom")
    assert by_name.dataset_ids == (1, 2)
    assert MetadataCatalog.get("odinw35_NorthAmericaMushrooms").thing_classes == [*by_name.names]
    spoken = registered_prompt("odinw13_NorthAmericaMushrooms", wordings=True)
    assert spoken.caption == "flat mushroom. yellow mushroom."


def test_another_number_of_categories_is_refused(tmp_path):
    register_all(tmp_path)
    write_odinw_set(tmp_path, "pothole/valid", odinw_set(["pothole", "puddle"], [0]))
    with pytest.raises(ValueError, match=r"has 2 categories \(pothole, puddle.*the 1 of this set"):
        dataset_vocabulary("odinw13_pothole")


def test_a_category_without_a_name_is_not_asked_for(tmp_path):
    register_all(tmp_path)
    chess = ODINW35["ChessPieces"]
    write_odinw_set(tmp_path, f"{chess.folder}/valid", odinw_set([f"c{i}" for i in range(13)], [0]))
    prompt = registered_prompt("odinw35_ChessPieces")
    assert prompt.vocab_ids == tuple(range(1, 13))
    assert prompt.words(0) == "black bishop" and prompt.words(11) == "white rook"
    assert len(dataset_vocabulary("odinw35_ChessPieces")) == 13


def test_names_in_one_caption():
    prompt = prompt_of_names(
        ["small_fish", "t.v. set", "", "Bus", "bus"], {"Bus": Wording(prefix="a ", suffix=" (red)")}
    )
    assert prompt.caption == "small fish. t v set. a Bus (red). bus."
    assert [prompt.words(i) for i in range(4)] == ["small fish", "t v set", "Bus", "bus"]
    assert prompt.vocab_ids == (0, 1, 3, 4)
    with pytest.raises(ValueError, match="none of the 2 categories has a name"):
        prompt_of_names(["", " . "], {})


def test_what_stands_in_brackets_can_be_dropped():
    names = ["bow_(weapon)", "(all)", "cat"]
    prompt = prompt_of_names(names, {}, drop_brackets=True)
    assert prompt.caption == "bow. (all). cat."
    assert prompt_of_names(names, {}).caption == "bow (weapon). (all). cat."


def test_a_text_ends_with_a_separator_and_its_spans_stay():
    assert prompt_of_text(" a cat ", ()).caption == "a cat."
    spans = (((1, 4),),)
    assert prompt_of_text(" cat .", spans) == TextPrompt(" cat .", spans)
    assert prompt_of_text(" cat  ", (((1, 6),),)).caption == " cat  ."


def test_names_of_a_file_stay_where_they_are_the_same_ones():
    assert names_in_order(("b", "a "), ("a", "b"), "x.json") == ("a", "b")
    assert names_in_order(("x", ""), ("a", "b"), "x.json") == ("x", "b")


def test_the_sets_of_odinw():
    """The 13 are a part of the 35 but for names of sets and categories."""
    assert len(ODINW13) == 13 and len(ODINW35) == 35
    assert {one.folder for one in ODINW13.values()} <= {one.folder for one in ODINW35.values()}
    assert len({one.folder for one in ODINW35.values()}) == 35
    for one in (*ODINW13.values(), *ODINW35.values()):
        assert set(one.wordings) <= set(one.classes)
        assert len(set(one.classes)) == len(one.classes)


@pytest.mark.parametrize("inner", ["", "val2017/"])
def test_minival_with_and_without_the_folder_in_its_names(tmp_path, inner):
    register_all(tmp_path)
    write_picture(tmp_path / "coco/val2017/1.png", *SIZE)
    content = odinw_set(["cat"], [1])
    content["images"][0] |= {
        "file_name": f"{inner}1.png",
        "coco_url": "http://x/val2017/1.png",
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
    }
    content["categories"][0]["frequency"] = "f"
    write_json(tmp_path / "lvis/lvis_v1_minival_inserted_image_name.json", content)
    (record,) = registered_records("cq_lvis_v1_minival_inserted_image_name")
    assert record["file_name"] == str(tmp_path / "coco/val2017/1.png")


def test_sets_in_odvg(tmp_path):
    folder = write_odvg(tmp_path)
    register_odvg("boxes", folder / "detection.jsonl", folder / "images", folder / "label_map.json")
    register_odvg("sentences", folder / "grounding.jsonl", folder / "images")
    assert dataset_vocabulary("boxes").names == tuple(NAMES)
    records = registered_records("boxes")
    assert [a["category_id"] for a in records[3]["annotations"]] == [3, 4, 3]
    assert records[4]["neg_category_ids"] == [1, 3] and records[0]["neg_category_ids"] == []
    record = registered_records("sentences")[3]
    assert record["file_name"] == str(folder / "images/d.png") and record["image_id"] == 4
    assert record["prompt"].caption == "two big, old dogs."
    assert [record["prompt"].words(i) for i in range(2)] == ["two dogs", "big"]
    assert [a["category_id"] for a in record["annotations"]] == [0, 1]
    with pytest.raises(ValueError, match="'sentences' is a set of texts"):
        registered_annotations("sentences")
    with pytest.raises(ValueError, match="'boxes' is no set of texts"):
        registered_texts("boxes")
    with pytest.raises(ValueError, match="'boxes' has evaluator_type 'odvg': not"):
        build_evaluator(dataset_name="boxes", vocabulary=None)
    other = tmp_path / "other.json"
    register_odvg("boxes", folder / "detection.jsonl", folder / "images", other)
    with pytest.raises(FileNotFoundError, match=r"other\.json"):
        registered_records("boxes")

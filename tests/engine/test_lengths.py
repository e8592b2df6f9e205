"""Lengths in epochs, the learning rate for a batch, and optimizers."""

import json

import pytest
import torch
from detectron2.config import LazyCall

from cqdino_d2.engine import Training, get_parameter_groups, load_config
from cqdino_d2.engine.config import iterations_of, with_lengths
from cqdino_d2.engine.optimizers import build_optimizer, with_scaled_rate
from tests.runs import CONFIG
from tests.tiny import tiny_config, tiny_model


class Loader:
    dataset = range(10)


@pytest.mark.parametrize(
    ("length", "iterations"),
    [(7, 7), (0, 0), ("1ep", 3), ("2ep", 5), ("0.1ep", 1), ("24ep", 60), ("0.4ep", 1)],
)
def test_iterations_of(length, iterations):
    assert iterations_of(length, num_images=10, total_batch_size=4) == iterations


@pytest.mark.parametrize("length", ["24", "ep", "-1ep", "24 epochs", 2.5, True])
def test_other_lengths_are_errors(length):
    with pytest.raises(ValueError, match="like '24ep'"):
        iterations_of(length, num_images=10, total_batch_size=4)


def test_epochs_of_the_released_recipe():
    """METHOD: 24 epochs of 183,354 images by 16."""
    assert iterations_of("24ep", num_images=183_354, total_batch_size=16) == 275_031


def test_lengths_of_a_config_are_resolved_together():
    settings = ["train.max_iter=4ep", "train.eval_period=1ep", "train.checkpointer.period=2ep"]
    cfg = load_config(CONFIG, [*settings, "lr_multiplier.warmup_iter=1ep"])
    given = cfg
    cfg = with_lengths(cfg, Loader())
    assert given.train.max_iter == "4ep"
    assert (cfg.train.max_iter, cfg.train.eval_period, cfg.train.checkpointer.period) == (10, 3, 5)
    assert (cfg.lr_multiplier.max_iter, cfg.lr_multiplier.warmup_iter) == (10, 3)
    with pytest.raises(ValueError, match="train.max_iter is '4ep'.*no dataset"):
        with_lengths(load_config(CONFIG, settings), [])


def test_batches_of_other_images_come_on_top_of_an_epoch():
    """One after every batch of the dataset: everything that is given in epochs is doubled."""

    class Alternating(Loader):
        def iterations_until(self, batches):
            return 2 * batches

    settings = ["train.max_iter=4ep", "train.eval_period=1ep", "train.checkpointer.period=7"]
    cfg = with_lengths(load_config(CONFIG, settings), Alternating())
    assert (cfg.train.max_iter, cfg.train.eval_period, cfg.train.checkpointer.period) == (20, 6, 7)
    assert cfg.lr_multiplier.max_iter == 20, "milestones are shares of it"


def test_a_training_counts_in_epochs(tmp_path, monkeypatch):
    import toy_detector

    monkeypatch.setattr(toy_detector.ToyTrainLoader, "dataset", range(10), raising=False)
    cfg = load_config(CONFIG, [f"train.output_dir={tmp_path}", "train.max_iter=1.2ep"])
    training = Training.prepare(cfg, resume=False, load_embeddings=None)
    training.run()
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert sum("total_loss" in row for row in rows) == training.max_iter == 3
    # what was given is kept: the next run may have other data
    assert load_config(tmp_path / "config.yaml").train.max_iter == "1.2ep"


def test_learning_rate_follows_the_batch(caplog):
    cfg = load_config(CONFIG, ["optimizer.lr=0.1", "dataloader.train.total_batch_size=8"])
    assert with_scaled_rate(cfg).optimizer.lr == 0.1
    cfg.train.base_batch_size = 16
    with caplog.at_level("INFO", logger="cqdino_d2"):
        assert with_scaled_rate(cfg).optimizer.lr == pytest.approx(0.05)
    assert cfg.optimizer.lr == 0.1
    assert "0.05: 0.1 for 16 images, times 8 / 16" in caplog.text
    cfg.train.base_batch_size = 0
    with pytest.raises(ValueError, match="positive, got 0"):
        with_scaled_rate(cfg)


def test_the_scaled_rate_reaches_every_group():
    cfg = tiny_config(overrides=["train.base_batch_size=16", "dataloader.train.total_batch_size=4"])
    cfg.optimizer.params.multipliers = {"backbone": {"lr": 0.1}}
    given = cfg.optimizer.lr
    cfg = with_scaled_rate(cfg)
    optimizer = build_optimizer(cfg.optimizer, tiny_model())
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"backbone": 0.1 * given / 4, "default": given / 4})
    assert all(type(group["betas"]) is tuple for group in optimizer.param_groups)


class TestNoDecay:
    KINDS = ("norms", "biases", "relative_positions", "absolute_positions")

    def names(self, model, kinds):
        groups = get_parameter_groups(
            model=model,
            base_lr=1.0,
            weight_decay=0.5,
            multipliers={"backbone": {"weight_decay": 10.0}},
            no_decay=kinds,
        )
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        members = [id(p) for group in groups for p in group["params"]]
        assert sorted(members) == sorted(names)
        decays = {group["name"]: group["weight_decay"] for group in groups}
        spared = [g for g in groups if g["weight_decay"] == 0]
        assert {g["name"].endswith(", no decay") for g in spared} <= {True}
        return decays, {names[id(p)] for group in spared for p in group["params"]}

    def test_kinds(self):
        from cqdino_d2.backbone import TimmBackbone

        swin = TimmBackbone(
            name="swin_tiny_patch4_window7_224",
            out_indices=[1, 2],
            output_norm=True,
            model_args={"depths": [1, 1, 1, 1], "embed_dim": 24},
        )
        model = tiny_model()
        model.backbone = swin
        assert self.names(model, ()) == ({"backbone": 5.0, "default": 0.5}, set())
        decays, spared = self.names(model, self.KINDS)
        assert decays == {
            "backbone": 5.0,
            "backbone, no decay": 0.0,
            "default": 0.5,
            "default, no decay": 0.0,
        }
        expected = {
            name
            for name, parameter in model.named_parameters()
            if parameter.ndim == 1 or name.endswith("relative_position_bias_table")
        }
        expected -= {n for n in expected if n.endswith("_scale") or n.endswith("not_selected")}
        assert spared == expected | {"tokenizer.level_embedding"}
        tables = self.names(model, ("relative_positions",))[1]
        assert len(tables) == 3 and all("relative_position_bias_table" in n for n in tables)
        norms = self.names(model, ("norms",))[1]
        assert {"neck.lateral.0.1.weight", "backbone.norms.0.bias"} <= norms
        assert "decoder.layers.0.self_attention.in_proj_bias" not in norms

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="no_decay has .'bias'.*'biases'"):
            get_parameter_groups(
                model=torch.nn.Linear(1, 1), base_lr=1.0, weight_decay=0.1, no_decay=["bias"]
            )


def test_one_process_has_nothing_to_share():
    node = LazyCall(torch.optim.SGD)(
        params=LazyCall(get_parameter_groups)(base_lr=1.0, weight_decay=0.0), lr=1.0
    )
    optimizer = build_optimizer(node, torch.nn.Linear(1, 1), sharded=True)
    assert type(optimizer) is torch.optim.SGD

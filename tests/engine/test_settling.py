"""A config is copied and settled, never edited; what a resumed training takes from it."""

import copy
import logging

import pytest
import torch
from omegaconf import OmegaConf

from cqdino_d2.engine import Training, load_config
from cqdino_d2.engine.config import (
    plain_container,
    settle_training,
    with_saved_vocabulary,
    with_vocabulary,
    without_pretrained,
)
from cqdino_d2.engine.config.run_record import changed_settings
from cqdino_d2.structures import random_vocabulary
from tests.runs import CONFIG


def load(*overrides):
    return load_config(CONFIG, overrides)


def prepare(folder, *overrides, resume=False):
    cfg = load(f"train.output_dir={folder}", *overrides)
    given = plain_container(copy.deepcopy(cfg))
    training = Training.prepare(cfg, resume=resume, load_embeddings=None)
    assert plain_container(cfg) == given
    return training


def test_every_function_leaves_its_config_as_it_was(tmp_path):
    cfg = load("model.backbone.pretrained=true", "train.base_batch_size=8")
    given = plain_container(cfg)
    random_vocabulary(7).save(tmp_path / "vocabulary.json")
    saved = with_saved_vocabulary(cfg, tmp_path / "weights.pth")
    assert saved.vocabulary.path == str(tmp_path / "vocabulary.json")
    assert without_pretrained(cfg).model.backbone.pretrained is False
    assert with_vocabulary(cfg, random_vocabulary(9)).vocabulary != cfg.vocabulary
    settled = settle_training(cfg, start_iter=4)
    assert settled.cfg.optimizer.lr == pytest.approx(cfg.optimizer.lr / 2)
    assert settled.cfg.model.backbone.pretrained is False
    assert (settled.loader.start, settled.start_iter) == (4, 4)
    assert settle_training(cfg, start_iter=None).cfg.model.backbone.pretrained is True
    assert plain_container(cfg) == given


def test_weight_files_of_the_backbone_are_off_and_those_of_other_parts_stay():
    cfg = load("+model.backbone.inner.pretrained=resnet.pth", "+model.teacher.pretrained=openai")
    cfg.model.backbone.pretrained = "packaged"
    off = without_pretrained(cfg).model
    assert (off.backbone.pretrained, off.backbone.inner.pretrained) == (False, False)
    assert off.teacher.pretrained == "openai"


@pytest.mark.parametrize(
    "setting",
    [
        "train.max_iter=0",
        "train.max_iter=-1",
        "train.max_iter=2.5",
        "train.log_period=0",
        "train.checkpointer.period=0",
        "train.eval_period=-1",
        "train.seed=-1",
        "train.seed=18446744073709551616",
        "dataloader.train.total_batch_size=0",
    ],
)
def test_numbers_that_cannot_be_used_are_named(tmp_path, setting):
    key = setting.split("=")[0]
    with pytest.raises(ValueError, match=f"{key}|length|seeds"):
        prepare(tmp_path, setting)


@pytest.mark.parametrize("rate", [None, "fast", float("inf"), float("nan"), -1.0, True])
def test_a_rate_is_a_number(rate):
    cfg = load()
    cfg.optimizer.lr = rate
    with pytest.raises(ValueError, match=r"optimizer\.lr must be a number"):
        settle_training(cfg, start_iter=None)


class TestResuming:
    SHORT = ("train.max_iter=4", "train.checkpointer.period=2", "lr_multiplier.warmup_iter=0")

    def rates(self, folder, *overrides):
        prepare(folder, *self.SHORT).run()
        before = torch.load(folder / "model_final.pth", weights_only=True)["optimizer"]
        longer = ("train.max_iter=6", *overrides)
        resumed = prepare(folder, *self.SHORT, *longer, resume=True)
        fresh = prepare(folder.with_name("fresh"), *self.SHORT, *longer)
        groups = [t.trainer.optimizer.param_groups for t in (resumed, fresh)]
        for mine, other in zip(*groups, strict=True):
            for key in ("name", "initial_lr", "weight_decay", "betas", "eps"):
                assert mine[key] == other[key], key
        state = resumed.trainer.optimizer.state_dict()["state"]
        assert torch.equal(state[0]["exp_avg"], before["state"][0]["exp_avg"])
        return resumed

    def test_rates_and_decays_are_those_of_the_config(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="cqdino_d2"):
            resumed = self.rates(tmp_path / "run", "optimizer.lr=0.5", "optimizer.weight_decay=0.3")
        group = resumed.trainer.optimizer.param_groups[-1]
        assert group["initial_lr"] == 0.5 and group["weight_decay"] == 0.3
        assert "another setting: optimizer.lr: 0.01 -> 0.5" in caplog.text
        assert OmegaConf.load(tmp_path / "run/config.yaml").optimizer.lr == 0.5

    def test_what_cannot_apply_is_said(self, tmp_path, caplog):
        prepare(tmp_path, *self.SHORT).run()
        changed = ["train.init_checkpoint=other.pth", "dataloader.train.total_batch_size=8"]
        prepare(tmp_path, *self.SHORT, *changed, resume=True)
        assert "Without effect" in caplog.text and "'other.pth'" in caplog.text
        assert "other training images or another order: dataloader.train.total" in caplog.text

    def test_another_optimizer_is_refused(self, tmp_path):
        prepare(tmp_path, *self.SHORT).run()
        before = (tmp_path / "config.yaml").read_text()
        settings = ["optimizer._target_=torch.optim.SGD", "~optimizer.betas"]
        with pytest.raises(ValueError, match=r"cannot resume with another optimizer\._target_"):
            prepare(tmp_path, *self.SHORT, *settings, resume=True)
        groups = "optimizer.params.no_decay=[biases]"
        with pytest.raises(ValueError, match="saved optimizer has the parameter groups"):
            prepare(tmp_path, *self.SHORT, groups, resume=True)
        assert (tmp_path / "config.yaml").read_text() == before
        assert not list(tmp_path.glob("*.tmp*"))

    def test_the_same_config_says_nothing(self, tmp_path, caplog):
        for resume in (False, True):
            prepare(tmp_path, *self.SHORT, resume=resume).run()
        assert "Resuming with" not in caplog.text


def test_changed_settings():
    assert changed_settings({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {
        "a": (1, None),
        "b": (2, 3),
        "c": (None, 4),
    }

"""Parameter groups, schedules, seeding, moving average, configs."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from cqdino_d2.engine import (
    ExponentialMovingAverage,
    LaunchError,
    cosine_schedule,
    get_parameter_groups,
    launch,
    load_config,
    multi_step_schedule,
    seed_iteration,
)
from cqdino_d2.engine.config import plain_container


def make_model():
    return nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
            "backbone_norm": nn.LayerNorm(2),
            "head": nn.Linear(2, 1),
        }
    )


class TestParameterGroups:
    def test_each_trainable_parameter_is_in_one_group(self):
        model = make_model()
        model["backbone"][0].bias.requires_grad = False
        groups = get_parameter_groups(
            model=model,
            base_lr=1.0,
            weight_decay=0.5,
            multipliers={
                "backbone": {"lr": 0.01, "weight_decay": 10},
                "backbone.1": {"lr": 0.1},
            },
        )
        ids = [id(parameter) for group in groups for parameter in group["params"]]
        trainable = [id(p) for p in model.parameters() if p.requires_grad]
        assert sorted(ids) == sorted(trainable)
        by_name = {group["name"]: group for group in groups}
        assert by_name["backbone"]["lr"] == 0.01 and by_name["backbone"]["weight_decay"] == 5
        assert by_name["backbone.1"]["lr"] == 0.1 and by_name["backbone.1"]["weight_decay"] == 0.5
        assert [len(by_name[n]["params"]) for n in ("backbone", "backbone.1", "default")] == [
            1,
            2,
            4,
        ]

    def test_errors(self):
        settings = {"base_lr": 1.0, "weight_decay": 0.0}
        with pytest.raises(ValueError, match="back.*the model's parts are"):
            get_parameter_groups(model=make_model(), multipliers={"back": {"lr": 2}}, **settings)
        with pytest.raises(ValueError, match="decay"):
            get_parameter_groups(model=make_model(), multipliers={"head": {"decay": 2}}, **settings)
        with pytest.raises(ValueError, match="no trainable"):
            get_parameter_groups(model=make_model().requires_grad_(False), **settings)


def test_multi_step_schedule():
    schedule = multi_step_schedule(max_iter=2400, epochs=24, milestones=[12, 18], warmup_iter=100)
    at = [schedule(iteration / 2400) for iteration in (0, 50, 100, 1199, 1200, 1799, 1800, 2399)]
    assert at == pytest.approx([0.1, 0.55, 1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(ValueError, match="ascend"):
        multi_step_schedule(max_iter=10, epochs=24, milestones=[12, 30])


def test_cosine_schedule():
    schedule = cosine_schedule(max_iter=100, final_factor=0.0, warmup_iter=0)
    assert [schedule(x) for x in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0], abs=1e-9)


def test_seeding_repeats_and_differs():
    def draw(iteration, rank):
        seed_iteration(seed=1, iteration=iteration, rank=rank)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    draws = {draw(iteration, rank) for iteration in range(3) for rank in range(2)}
    assert len(draws) == 6
    assert draw(2, 1) in draws


class TestMovingAverage:
    def test_update_follows_the_formula(self):
        model = nn.BatchNorm1d(2)
        ema = ExponentialMovingAverage(model=model, decay=0.15)
        with torch.no_grad():
            model.weight.fill_(2.0)
            model.num_batches_tracked.fill_(7)
        ema.update(model)  # (1 + 0) / (10 + 0)
        assert ema.weights["weight"].tolist() == pytest.approx([0.1 * 1 + 0.9 * 2] * 2)
        ema.update(model)  # 2 / 11 is above 0.15
        assert ema.weights["weight"].tolist() == pytest.approx([0.15 * 1.9 + 0.85 * 2] * 2)
        assert ema.weights["num_batches_tracked"] == 7

    def test_the_averaged_model_is_one_of_its_own(self):
        model = nn.Linear(2, 2)
        ema = ExponentialMovingAverage(model=model, decay=0.5)
        with torch.no_grad():
            model.weight.add_(1)
        ema.update(model)
        x = torch.ones(1, 2)
        assert torch.allclose(ema.model(x), model(x) - 2 * 0.1)
        assert torch.allclose(ema.weights["weight"], model.weight - 0.1)

    def test_frozen_parameters_are_shared(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[0].requires_grad_(False)
        ema = ExponentialMovingAverage(model=model, decay=0.5)
        assert ema.model[0].weight.data_ptr() == model[0].weight.data_ptr()
        before = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            model[1].weight.add_(1)
        ema.update(model)
        assert torch.allclose(ema.weights["1.weight"], model[1].weight - 0.1)
        assert torch.equal(ema.weights["0.weight"], before["0.weight"])
        assert ema.model[1].weight.data_ptr() != model[1].weight.data_ptr()

    def test_a_saved_average_goes_on_where_it_was(self):
        """Files of before this class used torch's own average have the same two entries."""
        model = nn.BatchNorm1d(2)
        ema = ExponentialMovingAverage(model=model, decay=0.9)
        ema.update(model)
        state = copy.deepcopy(ema.state_dict())
        assert state.keys() == {"updates", "weights"} and state["updates"] == 1
        assert state["weights"].keys() == model.state_dict().keys()
        other = ExponentialMovingAverage(model=nn.BatchNorm1d(2), decay=0.9)
        other.load_state_dict(state)
        with torch.no_grad():
            model.weight.fill_(2.0)
        for one in (ema, other):
            one.update(model)
            assert one.weights["weight"].tolist() == pytest.approx([2 - 2 / 11] * 2)

    def test_state_of_another_model_is_an_error(self):
        ema = ExponentialMovingAverage(model=nn.Linear(2, 2), decay=0.9)
        other = ExponentialMovingAverage(model=nn.Linear(3, 2), decay=0.9)
        with pytest.raises(ValueError, match="another model.*weight"):
            ema.load_state_dict(other.state_dict())
        with pytest.raises(ValueError, match="decay"):
            ExponentialMovingAverage(model=nn.Linear(2, 2), decay=1.0)


class TestConfig:
    FILE = "tests/engine/toy_config.py"

    def test_overrides(self):
        cfg = load_config(self.FILE, ["train.max_iter=3", "model.new=4", "+train.extra=[1,2]"])
        assert (cfg.train.max_iter, cfg.model.new, cfg.train.extra) == (3, 4, [1, 2])
        assert load_config(self.FILE, ["dataloader.test.mapper.augmentations.0.max_size=9"])
        assert "seed" not in load_config(self.FILE, ["~train.seed"]).train

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("train.max_itr=3", "has no 'max_itr' .did you mean 'max_iter'"),
            ("trian.seed=3", "has no 'trian' .did you mean 'train'"),
            ("train.max_iter.x=3", "train.max_iter has no 'x'"),
            ("train.max_iter==", "cannot read the override train.max_iter=="),
            ("[1,2", "expected KEY=VALUE"),
            ("~train.nothing", "cannot delete train.nothing"),
            ("model=null", "model must be a group of settings, got None"),
            ("model=[1,2]", r"cannot override model by \[1, 2\]"),
            ("train=5", "train must be a group of settings, got 5"),
        ],
    )
    def test_bad_overrides(self, override, message):
        with pytest.raises(ValueError, match=message):
            load_config(self.FILE, [override])

    def test_bad_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
            load_config("nowhere.py")
        (tmp_path / "empty.py").write_text("train = dict(seed=1)\n")
        with pytest.raises(ValueError, match="lacks .'model'"):
            load_config(tmp_path / "empty.py")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.py", b"train = dict(\n", r"cannot be read: .*a\.py.*line 1\)$"),
            ("a.py", b"import not_there_xyz\n", "cannot be read: No module named 'not_there_xyz'$"),
            ("a.py", b"\xff\xfe\x00", "cannot be read: .*can't decode byte 0xff"),
            ("a.yaml", b"train: [1\n", "cannot be read: .*line 2, column 1$"),
        ],
    )
    def test_files_that_cannot_be_read(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_config(tmp_path / name)

    def test_plain_container(self):
        cfg = load_config(self.FILE, [])
        cfg.model.norm = nn.LayerNorm
        plain = plain_container(cfg.model)
        assert plain["_target_"] == "toy_detector.ToyDetector"
        assert plain["vocabulary"] == {"_target_": "toy_detector.toy_vocabulary"}
        assert plain["backbone"]["channels"] == 8
        assert plain["norm"]["path"] == "torch.nn.modules.normalization.LayerNorm"
        with pytest.raises(ValueError, match="no name"):
            plain_container({"activation": lambda x: x})


def test_launch_errors():
    with pytest.raises(LaunchError, match="--dist-url"):
        launch(print, num_machines=2)
    with pytest.raises(LaunchError, match="rank 3"):
        launch(print, machine_rank=3)
    with pytest.raises(LaunchError, match="GPUs were asked for"):
        launch(print, processes_per_machine=99, backend="nccl")

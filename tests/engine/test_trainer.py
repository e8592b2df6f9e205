import copy

import pytest
import torch
from torch import nn
from toy_detector import ToyBackbone, ToyDetector, make_sample, toy_vocabulary

from cqdino_d2.engine import ExponentialMovingAverage, NonFiniteError, Precision, Trainer


def make_trainer(batches, amp=None, max_norm=0.1, **kwargs):
    torch.manual_seed(0)
    model = ToyDetector(
        backbone=ToyBackbone(channels=8), vocabulary=toy_vocabulary(), channels=8, dropout=0.0
    )
    precision = Precision.from_name(device_type="cpu", enabled=amp is not None, dtype=amp or "bf16")
    return Trainer(
        model=model,
        data_loader=batches,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        seed=0,
        precision=precision,
        max_norm=max_norm,
        **kwargs,
    )


class WithBatchNorm(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body, self.norm = body, nn.BatchNorm1d(1)

    def forward(self, image):
        return self.norm(self.body(image)[:, None])[:, 0]


def make_batches(count=3):
    return [[make_sample(2 * n), make_sample(2 * n + 1)] for n in range(count)]


def test_non_finite_loss_names_loss_and_images_and_spares_the_weights():
    batches = make_batches()
    batches[1][1]["poison"] = True
    trainer = make_trainer(batches)
    weights = []
    trainer.after_step = lambda: weights.append(trainer.model.box.weight.detach().clone())
    with pytest.raises(NonFiniteError, match=r"iteration 1 .*'loss_category': nan.*\[2, 3\]"):
        trainer.train(0, 3)
    assert torch.equal(trainer.model.box.weight, weights[-1])


def test_the_part_with_the_bad_loss_is_named_by_its_files():
    batches = make_batches()
    for sample in batches[0]:
        sample["file_name"] = f"pictures/{sample['image_id']}.jpg"
    batches[0][1]["poison"] = True
    trainer = make_trainer(batches, num_parts=2)
    with pytest.raises(NonFiniteError, match=r"nan\} for the images \['pictures/1\.jpg'\]$"):
        trainer.train(0, 1)


def test_batch_statistics_of_a_failed_step_are_taken_back():
    batches = make_batches()
    batches[1][0]["poison"] = True
    trainer = make_trainer(batches)
    backbone = trainer.model.backbone
    trainer.model.backbone = WithBatchNorm(backbone)
    trainer = Trainer(
        model=trainer.model,
        data_loader=batches,
        optimizer=trainer.optimizer,
        seed=0,
        precision=Precision("cpu"),
    )
    seen = []
    trainer.after_step = lambda: seen.append(copy.deepcopy(trainer.model.state_dict()))
    with pytest.raises(NonFiniteError):
        trainer.train(0, 2)
    assert seen[0]["backbone.norm.num_batches_tracked"] == 2  # the toy encodes image by image
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, seen[0][key]), key


def test_a_step_fetches_its_figures_at_once(monkeypatch):
    def refuse(tensor):
        raise AssertionError("a transfer of its own")

    trainer = make_trainer(make_batches())
    fetched, tolist = [], torch.Tensor.tolist
    for name in ("item", "__float__", "__bool__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: fetched.append(x.shape) or tolist(x))
    trainer.train(0, 2)
    assert fetched == [(1, 4), (1, 4)]  # two losses, gradient norm, waiting time


def test_non_finite_gradient_names_parameters():
    trainer = make_trainer(make_batches())
    trainer.model.box.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match=r"'box\.weight'"):
        trainer.train(0, 1)


@pytest.mark.parametrize("max_norm", [0.01, None])
def test_clipping_bounds_the_step(max_norm):
    trainer = make_trainer(make_batches(), max_norm=max_norm)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train(0, 1)
    moved = torch.stack(
        [(p - q).norm() for p, q in zip(trainer.model.parameters(), before, strict=True)]
    ).norm()
    logged = trainer.storage.history("gradient_norm").latest()
    assert logged > 0.05
    assert moved.item() == pytest.approx(logged if max_norm is None else 0.01, rel=1e-4)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_learns_as_float32(amp):
    plain, mixed = make_trainer(make_batches()), make_trainer(make_batches(), amp=amp)
    for trainer in (plain, mixed):
        trainer.train(0, 3)
    losses = [t.storage.history("total_loss").latest() for t in (plain, mixed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert ("loss_scale" in mixed.storage.histories()) == (amp == "fp16")
    with pytest.raises(ValueError, match="fp8"):
        Precision.from_name(device_type="cpu", enabled=True, dtype="fp8")


def test_moving_average_follows_the_steps():
    trainer = make_trainer(make_batches())
    trainer.ema = ExponentialMovingAverage(model=trainer.model, decay=0.0)
    trainer.train(0, 3)
    assert trainer.ema.updates == 3
    assert torch.equal(trainer.ema.weights["box.weight"], trainer.model.box.weight)

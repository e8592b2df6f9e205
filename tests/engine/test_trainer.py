import pytest
import torch
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

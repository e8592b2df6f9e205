"""Short trainings of the tiny detector in this process, on made-up pictures."""

import torch
from detectron2.engine import HookBase

from cqdino_d2.engine import ExponentialMovingAverage, Precision, Trainer
from tests.tiny import make_input, tiny_model

PLAIN = ("model.denoising=null", "model.selection.dropout=0", "model.encoder.exchange.dropout=0")


def make_batches(steps=6, size=4):
    """Pictures with one to three boxes each."""
    boxes = [(4, 4, 30, 40), (20, 10, 60, 50), (8, 30, 40, 60)]
    return [
        [
            make_input(boxes=boxes[: 1 + n % 3], classes=[n % 9, 7, 12][: 1 + n % 3], seed=n)
            for n in range(size * step, size * step + size)
        ]
        for step in range(steps)
    ]


class _Recorder(HookBase):
    def __init__(self):
        self.rows = []

    def after_step(self):
        latest = self.trainer.storage.latest()
        kept = {k: v[0] for k, v in latest.items() if "loss" in k or k == "gradient_norm"}
        kept.pop("loss_scale", None)
        self.rows.append(kept)


def precision_of(amp):
    """float16 with a loss scale that does not overflow at first, unlike PyTorch's 65536."""
    if amp == "fp16":
        return Precision("cpu", torch.float16, torch.amp.GradScaler("cpu", init_scale=256.0))
    return Precision.from_name(device_type="cpu", enabled=amp is not None, dtype=amp or "bf16")


def make_trainer(batches, *, precision=None, prepare=lambda model: None, overrides=PLAIN, **kwargs):
    model = tiny_model(overrides=overrides)
    prepare(model)
    return Trainer(
        model=model,
        data_loader=batches,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        seed=0,
        precision=precision or Precision("cpu"),
        max_norm=0.1,
        ema=ExponentialMovingAverage(model=model, decay=0.9),
        **kwargs,
    )


def train(batches=None, **kwargs):
    """(trainer, what was logged in every step)."""
    batches = make_batches() if batches is None else batches
    trainer = make_trainer(batches, **kwargs)
    recorder = _Recorder()
    trainer.register_hooks([recorder])
    trainer.train(0, len(batches))
    return trainer, recorder.rows

"""The training step: forward, checks, backward, clipping, update."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn

from .ema import ExponentialMovingAverage
from .seeding import seed_iteration

_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is not a finite number."""


@dataclass(frozen=True)
class Precision:
    """Autocast for the forward pass and, for float16, a loss scaler.

    Attributes:
        device_type: ``cpu`` or ``cuda``.
        dtype: of the autocast, None for plain float32.
        scaler: of the losses, None where none is needed.
    """

    device_type: str
    dtype: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None

    @classmethod
    def from_name(cls, *, device_type: str, enabled: bool, dtype: str) -> Precision:
        """Builds it from the config's ``train.amp``.

        Raises:
            ValueError: a dtype other than bf16 or fp16.
        """
        if dtype not in _AMP_DTYPES:
            raise ValueError(f"train.amp.dtype is {dtype!r}, expected one of {list(_AMP_DTYPES)}")
        if not enabled:
            return cls(device_type)
        scaler = torch.amp.GradScaler(device_type) if dtype == "fp16" else None
        return cls(device_type, _AMP_DTYPES[dtype], scaler)


class Trainer(TrainerBase):
    """Detectron2's training loop with reproducible steps.

    Every step seeds the generators from (seed, iteration, rank), and stops with an error that
    names the losses and images if something is not finite, before any weight is touched.

    Args:
        model: returns a dict of weighted losses; may be wrapped for several processes.
        data_loader: gives the batches from the first iteration of this run on.
        optimizer: over the model's parameters.
        seed: of the whole training.
        precision: autocast and loss scaler.
        max_norm: the gradients are scaled down to this norm; None leaves them.
        ema: a moving average to update after each step.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        seed: int,
        precision: Precision,
        max_norm: float | None = None,
        ema: ExponentialMovingAverage | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.ema = ema
        self._data_loader = data_loader
        self._batches: Iterator[list[dict[str, Any]]] | None = None
        self._seed = seed
        self._precision = precision
        self._max_norm = math.inf if max_norm is None else max_norm

    def run_step(self) -> None:
        """One iteration."""
        seed_iteration(seed=self._seed, iteration=self.iter, rank=comm.get_rank())
        self.model.train()
        start = time.perf_counter()
        batch = self._next_batch()
        data_time = time.perf_counter() - start
        losses = self._forward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self._scale(sum(losses.values())).backward()
        self._log_losses(losses, batch, data_time)
        self._update()
        if self.ema is not None:
            self.ema.update(unwrap(self.model))

    def _next_batch(self) -> list[dict[str, Any]]:
        if self._batches is None:
            self._batches = iter(self._data_loader)
        return next(self._batches)

    def _forward(self, batch: list[dict[str, Any]]) -> Mapping[str, Tensor]:
        precision = self._precision
        enabled = precision.dtype is not None
        with torch.autocast(precision.device_type, dtype=precision.dtype, enabled=enabled):
            losses = self.model(batch)
        if not losses:
            raise ValueError("the model returned no loss in training")
        return losses

    def _scale(self, total: Tensor) -> Tensor:
        scaler = self._precision.scaler
        return total if scaler is None else scaler.scale(total)

    def _update(self) -> None:
        scaler = self._precision.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        norm = self._clip_gradients()
        if math.isfinite(norm):
            self.storage.put_scalar("gradient_norm", norm)
        elif scaler is None:
            raise NonFiniteError(
                f"the gradient norm is {norm} at iteration {self.iter}; not finite are the "
                f"gradients of {self._non_finite_gradients()[:5]}"
            )
        if scaler is None:
            self.optimizer.step()
        else:  # the scaler itself skips the update after an overflow
            scaler.step(self.optimizer)
            scaler.update()
            self.storage.put_scalar("loss_scale", scaler.get_scale(), smoothing_hint=False)

    def _clip_gradients(self) -> float:
        """Scales the gradients down to ``max_norm`` and returns the norm that they had."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
        if math.isfinite(norm) and norm > self._max_norm:
            torch._foreach_mul_(gradients, self._max_norm / norm)
        return norm

    def _non_finite_gradients(self) -> list[str]:
        return [
            name
            for name, parameter in unwrap(self.model).named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]

    def _log_losses(
        self, losses: Mapping[str, Tensor], batch: list[dict[str, Any]], data_time: float
    ) -> None:
        """Stores the mean over the processes; all of them stop if one has a bad loss.

        Raises:
            NonFiniteError: names the losses and the images of the process they come from.
        """
        values = {name: loss.detach().item() for name, loss in losses.items()}
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        images = [sample.get("image_id") for sample in batch] if bad else []
        reports = comm.all_gather((values, data_time, bad, images))
        for rank, (_, _, bad, images) in enumerate(reports):
            if bad:
                raise NonFiniteError(
                    f"at iteration {self.iter} process {rank} has the losses {bad} for the "
                    f"images {images}"
                )
        means = {name: sum(report[0][name] for report in reports) / len(reports) for name in values}
        self.storage.put_scalars(total_loss=sum(means.values()), **means)
        self.storage.put_scalar("data_time", max(report[1] for report in reports))


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for several processes, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

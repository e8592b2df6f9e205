"""The training step: forward, checks, backward, clipping, update."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ..layers import check_precision, chosen_dtype
from ..structures.stages import CountsOverParts
from .ema import ExponentialMovingAverage
from .seeding import seed_iteration
from .step_figures import StepFigures, gather_figures, mean_losses

_LOGGER = logging.getLogger(__name__)
Batch = list[dict[str, Any]]  # of the dataset mapper
_AMP_NAMES = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16"}


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
        """Builds it from the config's ``train.amp``; `layers.precision` says what "auto" is.

        Raises:
            ValueError: a dtype other than auto, bf16 or fp16.
        """
        if dtype not in _AMP_NAMES:
            raise ValueError(f"train.amp.dtype is {dtype!r}, expected one of {list(_AMP_NAMES)}")
        if not enabled:
            return cls(device_type)
        check_precision("train.amp.dtype", _AMP_NAMES[dtype])
        chosen = chosen_dtype(_AMP_NAMES[dtype], device_type)
        scaler = torch.amp.GradScaler(device_type) if chosen == torch.float16 else None
        return cls(device_type, chosen, scaler)


class Trainer(TrainerBase):
    """Detectron2's training loop with reproducible steps.

    Every step seeds the generators from (seed, iteration, rank), and stops with an error that
    names the losses and images if something is not finite, before any weight is touched: model,
    optimizer and average are then those of the step before.

    Args:
        model: returns a dict of weighted losses; may be wrapped for several processes.
        data_loader: gives the batches from the first iteration of this run on.
        optimizer: over the model's parameters.
        seed: of the whole training.
        precision: autocast and loss scaler.
        max_norm: the gradients are scaled down to this norm; None leaves them.
        ema: a moving average to update after each step.
        num_parts: N; a batch goes through the model in N equal parts, one after the other,
            whose gradients add up to those of the whole. A module of the model whose losses are
            divided by something counted over a batch keeps the contract
            `CountsOverParts`.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        data_loader: Iterable[Batch],
        optimizer: torch.optim.Optimizer,
        seed: int,
        precision: Precision,
        max_norm: float | None = None,
        ema: ExponentialMovingAverage | None = None,
        num_parts: int = 1,
    ) -> None:
        super().__init__()
        if num_parts < 1:
            raise ValueError(f"a batch has at least one part, got {num_parts}")
        self.model = model
        self.optimizer = optimizer
        self.ema = ema
        self._data_loader = data_loader
        self._batches: Iterator[Batch] | None = None
        self._seed = seed
        self._precision = precision
        self._max_norm = math.inf if max_norm is None else max_norm
        self._num_parts = num_parts
        state = unwrap(model).state_dict(keep_vars=True).values()
        self._statistics = [x for x in state if not isinstance(x, nn.Parameter)]

    def train(self, start_iter: int, max_iter: int) -> None:
        """Runs the iterations from the first up to the last, ``max_iter - 1``.

        Detectron2's own loop, but for a traceback that it puts into the log: what an error means
        is for the caller to say.
        """
        _LOGGER.info("Training from iteration %d to %d", start_iter, max_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter += 1  # tells hooks that the training is complete
            finally:
                self.after_train()

    def run_step(self) -> None:
        """One iteration: one batch, one update of the weights."""
        seed_iteration(seed=self._seed, iteration=self.iter, rank=comm.get_rank())
        self.model.train()
        start = time.perf_counter()
        parts = self._split(self._next_batch())
        data_time = time.perf_counter() - start
        statistics = [x.clone() for x in self._statistics]  # of batch norms: the model sets them
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._backward(parts)
        figures = gather_figures(losses, self._gradient_norm(), data_time)
        try:
            self._check(figures, parts)
        except NonFiniteError:
            for now, before in zip(self._statistics, statistics, strict=True):
                now.copy_(before)
            raise
        self._log(figures)
        norm = figures[comm.get_rank()].gradient_norm
        self._update(norm)
        if self.ema is not None and math.isfinite(norm):
            self.ema.update(unwrap(self.model))

    def _next_batch(self) -> Batch:
        if self._batches is None:
            self._batches = iter(self._data_loader)
        return next(self._batches)

    def _split(self, batch: Batch) -> list[Batch]:
        size, rest = divmod(len(batch), self._num_parts)
        if rest:
            raise ValueError(
                f"the {len(batch)} images of a process cannot be shared evenly by "
                f"{self._num_parts} parts (train.accumulate)"
            )
        return [batch[n * size : (n + 1) * size] for n in range(self._num_parts)]

    def _backward(self, parts: Sequence[Batch]) -> list[Mapping[str, Tensor]]:
        """Adds up the gradients of all parts; processes exchange them with the last one."""
        found = []
        with ExitStack() as stack:
            if len(parts) > 1:
                for module in unwrap(self.model).modules():
                    if isinstance(module, CountsOverParts):
                        stack.enter_context(module.counted_over(parts))
            for part in parts:
                alone = part is not parts[-1] and self.model is not unwrap(self.model)
                with self.model.no_sync() if alone else nullcontext():
                    losses = self._forward(part)
                    self._scale(sum(losses.values()) / len(parts)).backward()
                found.append({name: loss.detach() for name, loss in losses.items()})
        return found

    def _forward(self, batch: Batch) -> Mapping[str, Tensor]:
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

    def _gradients(self) -> list[Tensor]:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return [p.grad for p in parameters if p.grad is not None]

    def _gradient_norm(self) -> Tensor:
        """A scalar on the device; takes the loss scale off the gradients first."""
        if self._precision.scaler is not None:
            self._precision.scaler.unscale_(self.optimizer)
        norms = torch._foreach_norm(self._gradients())
        return torch.linalg.vector_norm(torch.stack(norms))

    def _check(self, figures: Sequence[StepFigures], parts: Sequence[Batch]) -> None:
        """All processes stop if one has a bad loss.

        Raises:
            NonFiniteError: names the losses and the images of the process they come from.
        """
        bad = [one.bad_losses() for one in figures]
        bad_norm = not all(math.isfinite(one.gradient_norm) for one in figures)
        if not any(map(any, bad)) and not (bad_norm and self._precision.scaler is None):
            return  # after an overflow the loss scaler skips the update itself
        images = comm.all_gather([[_image_name(x) for x in part] for part in parts])
        reports = [
            f"process {rank} has the losses {losses} for the images {images[rank][part]}"
            for rank, by_part in enumerate(bad)
            for part, losses in enumerate(by_part)
            if losses
        ]
        if not reports:
            reports = [
                f"the gradient norm is {figures[0].gradient_norm}; not finite are the gradients "
                f"of {self._non_finite_gradients()[:5]}; the images are {images}"
            ]
        raise NonFiniteError(f"at iteration {self.iter} {'; '.join(reports)}")

    def _non_finite_gradients(self) -> list[str]:
        return [
            name
            for name, parameter in unwrap(self.model).named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]

    def _log(self, figures: Sequence[StepFigures]) -> None:
        """Stores means over the processes."""
        means = mean_losses(figures)
        self.storage.put_scalars(total_loss=sum(means.values()), **means)
        self.storage.put_scalar("data_time", max(one.data_time for one in figures))
        norm = figures[0].gradient_norm
        if math.isfinite(norm):
            self.storage.put_scalar("gradient_norm", norm)

    def _update(self, norm: float) -> None:
        """Clips the gradients, which have this norm, and lets the optimizer step."""
        if math.isfinite(norm) and norm > self._max_norm:
            torch._foreach_mul_(self._gradients(), self._max_norm / norm)
        scaler = self._precision.scaler
        if scaler is None:
            self.optimizer.step()
        else:  # the scaler itself skips the update after an overflow
            scaler.step(self.optimizer)
            scaler.update()
            self.storage.put_scalar("loss_scale", scaler.get_scale(), smoothing_hint=False)


def _image_name(sample: Mapping[str, Any]) -> Any:
    return sample.get("file_name", sample.get("image_id"))


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for several processes, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

"""Checkpoints that are whole or absent, and that say what fits and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from ..checkpoint import (
    assign_weights,
    names_without_numbers,
    unset_parameters,
    with_present_names,
)
from ..files import read_tensor_file, write_atomically
from ..files.text_lines import read_text
from ..files.weights_file import non_finite_names, read_weights, without_prefixes
from ..structures.stages import HasTrainingWeights
from .optimizers import load_moments

_NAMED_KEYS = 8
LAST_CHECKPOINT = "last_checkpoint"


@dataclass(frozen=True)
class WeightsReport:
    """How the weights of a checkpoint fit a model.

    Attributes:
        taken: names that fit.
        missing: names of the model that the checkpoint lacks, without those that serve training
            alone.
        unexpected: names of the checkpoint that the model lacks.
        mismatched: name -> (shape in the checkpoint, shape in the model).
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @classmethod
    def compare(cls, saved: dict[str, Tensor], model: nn.Module) -> WeightsReport:
        """Compares names and shapes; moves nothing."""
        wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        found = {key: tuple(value.shape) for key, value in saved.items()}
        common = wanted.keys() & found.keys()
        trains = isinstance(model, HasTrainingWeights)
        optional = model.training_weights() if trains else frozenset()
        return cls(
            taken=tuple(sorted(key for key in common if wanted[key] == found[key])),
            missing=tuple(sorted(wanted.keys() - found.keys() - optional)),
            unexpected=tuple(sorted(found.keys() - wanted.keys())),
            mismatched={k: (found[k], wanted[k]) for k in sorted(common) if wanted[k] != found[k]},
        )

    @property
    def complete(self) -> bool:
        """Whether the checkpoint has exactly the model's weights, or all to predict with."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self) -> str:
        """One line with counts and the first names of each kind."""
        shapes = [f"{k} {old} -> {new}" for k, (old, new) in self.mismatched.items()]
        kinds = {
            "missing in the checkpoint": self.missing,
            "unknown to the model": self.unexpected,
            "of another shape (checkpoint -> model)": shapes,
        }
        parts = [f"{len(self.taken)} weights fit"]
        for kind, names in kinds.items():
            if names:
                more = ", ..." if len(names) > _NAMED_KEYS else ""
                parts.append(f"{len(names)} {kind}: {', '.join(names[:_NAMED_KEYS])}{more}")
        return "; ".join(parts)


@runtime_checkable
class _Sharded(Protocol):
    """A state of which every process holds a share, as ZeRO's optimizer."""

    def consolidate_state_dict(self, to: int) -> None:
        """Gathers all of it in one process; every process calls it."""


@dataclass(frozen=True)
class SavedState:
    """What a checkpoint of a training holds.

    Attributes:
        path: the file.
        content: name -> the state of the model, the optimizer, ...
        start_iter: the first iteration that is still to do.
    """

    path: Path
    content: dict[str, Any]
    start_iter: int

    @classmethod
    def last_in(cls, folder: str | Path) -> SavedState | None:
        """The last checkpoint of a training's folder, None if there is none.

        Raises:
            FileNotFoundError: ``last_checkpoint`` names a file that is gone.
            ValueError: the checkpoint is unreadable, or is none of a training.
        """
        pointer = Path(folder, LAST_CHECKPOINT)
        if not pointer.is_file():
            return None
        path = pointer.parent / read_text(pointer).strip()
        content = read_tensor_file(path)
        if not isinstance(content.get("iteration"), int):
            keys = ", ".join(map(repr, list(content)[:_NAMED_KEYS]))
            raise ValueError(f"{path} cannot be resumed from: it holds {keys}, but no iteration")
        return cls(path, content, content["iteration"] + 1)


class AtomicCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic files, plain tensors only and exact key matching.

    It converts no names: what does not fit is named. Call `resume` or
    `load_weights`; `save` is used by Detectron2's periodic hook.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<name>.pth`` and then ``last_checkpoint``, in the main process.

        Every process must call it: one may hold a share of an optimizer's state.

        Raises:
            FileWriteError: it cannot be written (full disk, ...); earlier checkpoints survive.
        """
        for item in self.checkpointables.values():
            if isinstance(item, _Sharded):
                item.consolidate_state_dict(to=0)
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        write_atomically(path, lambda file: torch.save(content | kwargs, file))
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Makes a checkpoint the one that `resume` starts from."""
        name = last_filename_basename.encode()
        write_atomically(Path(self.save_dir, LAST_CHECKPOINT), lambda file: file.write(name))

    def resume(self) -> int:
        """Loads the last checkpoint with all its states.

        Returns:
            The iteration to resume at, 0 without a checkpoint.

        Raises:
            FileNotFoundError: ``last_checkpoint`` names a file that is gone.
            ValueError: the checkpoint is unreadable or of another config.
        """
        saved = SavedState.last_in(self.save_dir)
        if saved is None:
            return 0
        self.restore(saved)
        return saved.start_iter

    def restore(self, saved: SavedState) -> None:
        """Takes the weights and all other states of a checkpoint over.

        Of an optimizer only what it has seen is taken: its rates and decays are the config's.

        Raises:
            ValueError: the checkpoint is of another config.
        """
        path, content = saved.path, saved.content
        absent = sorted({"model", *self.checkpointables} - content.keys())
        if absent:
            raise ValueError(f"{path} cannot be resumed from: it holds no {', '.join(absent)}")
        self._take(content["model"], str(path), strict=True)
        for key, item in self.checkpointables.items():
            if isinstance(item, torch.optim.Optimizer):
                load_moments(item, content[key])
            else:
                item.load_state_dict(_renamed_average(content[key]))
        self.logger.info("Resuming from %s, iteration %d is done", path, saved.start_iter - 1)

    def load_weights(
        self, path: str | Path, *, strict: bool, prefer_average: bool = False
    ) -> WeightsReport:
        """Loads weights alone, from a file as `read_weights` takes it.

        Args:
            path: a checkpoint.
            strict: the weights must be exactly the model's.
            prefer_average: take the moving average of the weights where the file has one.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is unreadable, nothing in it fits, (``strict``) not all does, or
                it holds numbers that are not finite.
        """
        weights = read_weights(path, prefer_average=prefer_average)
        return self._take(weights, str(path), strict=strict)

    def _take(
        self, weights: dict[str, Tensor], path: str, *, strict: bool, assign: bool = False
    ) -> WeightsReport:
        weights = check_weights(weights, self.model, path, strict=strict)
        report = WeightsReport.compare(weights, self.model)
        taken = {key: weights[key] for key in report.taken}
        if assign:
            assign_weights(self.model, taken)
        else:
            self.model.load_state_dict(taken, strict=False)
        log = self.logger.info if report.complete else self.logger.warning
        log("Loaded %s: %s", path, report.describe())
        return report


def load_model(
    make: Callable[[], nn.Module],
    path: str | Path,
    device: torch.device,
    *,
    prefer_average: bool = False,
) -> nn.Module:
    """A model with exactly the weights of a file, which are its own memory: there is no copy.

    Where the file lacks some (those for training alone), or a part looks at its parameters'
    numbers when it is made, the model is made again, filled, and copied into.

    Args:
        make: returns the model.
        path: see `AtomicCheckpointer.load_weights`.
        device: where the model goes.
        prefer_average: likewise.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see `AtomicCheckpointer.load_weights`.
    """
    weights = read_weights(path, prefer_average=prefer_average, mapped=device.type != "cpu")
    model = _unset_model(make, weights)
    assign = model is not None
    model = make() if model is None else model
    AtomicCheckpointer(model)._take(weights, str(path), strict=True, assign=assign)
    return model.to(device)


def _unset_model(make: Callable[[], nn.Module], weights: dict[str, Tensor]) -> nn.Module | None:
    """The model without numbers in its parameters, if the weights bring all, else None."""
    try:
        # random numbers that this takes are there again, for a model that has to be filled
        with torch.random.fork_rng(devices=[]), unset_parameters():
            model = make()
    except (RuntimeError, TypeError):  # torch, and NumPy, of numbers that are not there
        return None
    brought = with_present_names(without_prefixes(weights, model.state_dict()))
    return model if brought.keys() >= set(names_without_numbers(model)) else None


def _renamed_average(state: dict[str, Any]) -> dict[str, Any]:
    """A saved moving average under the present names; any other state unchanged."""
    if not isinstance(state.get("weights"), dict):
        return state
    return state | {"weights": with_present_names(state["weights"])}


def check_weights(
    weights: dict[str, Tensor], model: nn.Module, path: str | Path, *, strict: bool
) -> dict[str, Tensor]:
    """The weights under the names of a model, which may lie on the meta device.

    Raises:
        ValueError: nothing fits, (``strict``) not all does, or not all numbers are finite.
    """
    weights = with_present_names(without_prefixes(weights, model.state_dict()))
    report = WeightsReport.compare(weights, model)
    if (strict and not report.complete) or not report.taken:
        raise ValueError(f"{path} does not fit this config: {report.describe()}")
    if bad := non_finite_names({name: weights[name] for name in report.taken}):
        raise ValueError(
            f"{path} has NaN or infinite numbers in {len(bad)} weights, among them "
            f"{', '.join(bad[:_NAMED_KEYS])}: its training diverged"
        )
    return weights

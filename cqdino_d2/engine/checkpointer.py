"""Checkpoints that are whole or absent, and that say what fits and what does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from ..checkpoint import with_present_names
from ..files import read_tensor_file, write_atomically

_NAMED_KEYS = 8


@dataclass(frozen=True)
class WeightsReport:
    """How the weights of a checkpoint fit a model.

    Attributes:
        taken: names that fit.
        missing: names of the model that the checkpoint lacks.
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
        return cls(
            taken=tuple(sorted(key for key in common if wanted[key] == found[key])),
            missing=tuple(sorted(wanted.keys() - found.keys())),
            unexpected=tuple(sorted(found.keys() - wanted.keys())),
            mismatched={k: (found[k], wanted[k]) for k in sorted(common) if wanted[k] != found[k]},
        )

    @property
    def complete(self) -> bool:
        """Whether the checkpoint has exactly the model's weights."""
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


class AtomicCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic files, plain tensors only and exact key matching.

    It neither converts nor guesses names: what does not fit is named. Call `resume` or
    `load_weights`; `save` is used by Detectron2's periodic hook.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<name>.pth`` and then ``last_checkpoint``, in the main process.

        Every process must call it: one may hold a share of an optimizer's state.

        Raises:
            FileWriteError: the disk is full or the like; earlier checkpoints survive.
        """
        for item in self.checkpointables.values():
            if hasattr(item, "consolidate_state_dict"):
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
        write_atomically(Path(self.save_dir, "last_checkpoint"), lambda file: file.write(name))

    def resume(self) -> int:
        """Loads the last checkpoint with all its states.

        Returns:
            The iteration to go on with, 0 without a checkpoint.

        Raises:
            FileNotFoundError: ``last_checkpoint`` names a file that is gone.
            ValueError: the checkpoint is unreadable or of another config.
        """
        if not self.has_checkpoint():
            return 0
        path = self.get_checkpoint_file()
        content = self._load_file(path)
        absent = sorted({*self.checkpointables, "iteration"} - content.keys())
        if absent:
            raise ValueError(f"{path} cannot be resumed from: it holds no {', '.join(absent)}")
        self._take(content["model"], path, strict=True)
        for key, item in self.checkpointables.items():
            item.load_state_dict(content[key])
        self.logger.info("Resuming from %s, iteration %d is done", path, content["iteration"])
        return int(content["iteration"]) + 1

    def load_weights(
        self, path: str | Path, *, strict: bool, prefer_average: bool = False
    ) -> WeightsReport:
        """Loads weights alone.

        Args:
            path: a checkpoint.
            strict: the weights must be exactly the model's.
            prefer_average: take the moving average of the weights where the file has one.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is unreadable, nothing in it fits, or (``strict``) not all does.
        """
        content = self._load_file(str(path))
        averaged = prefer_average and "ema" in content
        weights = content["ema"]["weights"] if averaged else content["model"]
        return self._take(weights, str(path), strict=strict)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = read_tensor_file(filename)
        content = content if "model" in content else {"model": content}
        holders = [(content, "model")]
        holders += [(content["ema"], "weights")] if "ema" in content else []
        for holder, key in holders:
            if not _are_tensors(holder[key]):
                raise ValueError(
                    f"{filename} holds {sorted(content)[:8]}, expected a dict of named tensors, or "
                    "one under 'model'"
                )
            holder[key] = with_present_names(holder[key])
        return content

    def _take(self, weights: dict[str, Tensor], path: str, *, strict: bool) -> WeightsReport:
        report = WeightsReport.compare(weights, self.model)
        if (strict and not report.complete) or not report.taken:
            raise ValueError(f"{path} does not fit this config: {report.describe()}")
        self.model.load_state_dict({key: weights[key] for key in report.taken}, strict=False)
        log = self.logger.info if report.complete else self.logger.warning
        log("Loaded %s: %s", path, report.describe())
        return report


def _are_tensors(weights: Any) -> bool:
    return isinstance(weights, dict) and all(isinstance(v, Tensor) for v in weights.values())

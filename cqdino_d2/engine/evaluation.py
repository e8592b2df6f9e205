"""From a config to an evaluation."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import Tensor, nn

from ..files import write_atomically
from ..structures.stages import HasTrainingWeights
from .checkpointer import load_model
from .config import settle_evaluation
from .placement import choose_device
from .processes import FolderLock
from .seeding import seed_generators


@runtime_checkable
class ChecksBeforehand(Protocol):
    """An evaluator that can tell before a training whether it will be able to score."""

    def check(self) -> None:
        """Raises ValueError or FileNotFoundError where it will not."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is ready to run, any number of times.

    Attributes:
        model: what is evaluated, not wrapped for several processes.
        loader: the test images.
        evaluator: a Detectron2 evaluator.
        folder: gets ``results.json``.
        lock: keeps other runs out of the folder until `run` is over; a training has its own.
    """

    model: nn.Module
    loader: Iterable[Any]
    evaluator: DatasetEvaluator
    folder: str
    lock: FolderLock | None = None

    @classmethod
    def prepare(cls, cfg: DictConfig) -> Evaluation:
        """For ``train.init_checkpoint``, whose weights must be exactly the model's.

        Raises:
            ValueError: no checkpoint is named, or it belongs to another config.
            FileNotFoundError: a file is missing.
            FolderInUseError: another process trains or evaluates in ``train.output_dir``.
        """
        weights = cfg.train.init_checkpoint
        if not weights:
            raise ValueError("an evaluation needs train.init_checkpoint=PATH")
        Path(cfg.train.output_dir).mkdir(parents=True, exist_ok=True)
        lock = FolderLock(cfg.train.output_dir) if comm.is_main_process() else None
        seed_generators(cfg.train.seed)
        cfg = settle_evaluation(cfg, weights)
        model = load_model(
            lambda: instantiate(cfg.model),
            weights,
            choose_device(cfg.train.device),
            prefer_average=cfg.train.ema.enabled,
        )
        return dataclasses.replace(cls.of_model(cfg, model), lock=lock)

    @classmethod
    def of_model(cls, cfg: DictConfig, model: nn.Module) -> Evaluation:
        """For a model that exists, on a settled config's ``dataloader.test``.

        Raises:
            ValueError: the test set cannot be scored as the config asks.
            FileNotFoundError: a file is missing.
        """
        loader = instantiate(cfg.dataloader.test)
        evaluator = instantiate(cfg.dataloader.evaluator)
        if isinstance(evaluator, ChecksBeforehand):
            evaluator.check()
        return cls(model, loader, evaluator, cfg.train.output_dir)

    def weights(self) -> Mapping[str, Tensor]:
        """What one predicts with: averaged weights if there are such, none of training alone."""
        weights = self.model.state_dict()
        if not isinstance(self.model, HasTrainingWeights):
            return weights
        left_out = self.model.training_weights()
        return {name: value for name, value in weights.items() if name not in left_out}

    def run(self) -> dict[str, Any]:
        """Evaluates.

        Returns:
            Task -> figure -> value; empty outside the main process.

        Raises:
            ValueError: data or weights that cannot be evaluated.
            OSError: a file cannot be read or written.
        """
        try:
            results = inference_on_dataset(self.model, self.loader, self.evaluator)
            if comm.is_main_process():
                print_csv_format(results)
                text = json.dumps(_without_nan(results), indent=2)
                path = Path(self.folder, "results.json")
                write_atomically(path, lambda file: file.write(text.encode()))
        finally:
            if self.lock is not None:
                self.lock.release()
        return results


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value

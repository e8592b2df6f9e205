"""From a config to an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import Tensor, nn

from ..files import write_atomically
from .checkpointer import AtomicCheckpointer
from .config import disable_pretrained, share_vocabulary, use_saved_vocabulary
from .ema import ExponentialMovingAverage
from .placement import choose_device
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
        model: not wrapped for several processes.
        loader: the test images.
        evaluator: a Detectron2 evaluator.
        folder: gets ``results.json``.
        ema: evaluate with these weights instead of the model's.
    """

    model: nn.Module
    loader: Iterable[Any]
    evaluator: DatasetEvaluator
    folder: str
    ema: ExponentialMovingAverage | None = None

    @classmethod
    def prepare(cls, cfg: DictConfig) -> Evaluation:
        """For ``train.init_checkpoint``, whose weights must be exactly the model's.

        Raises:
            ValueError: no checkpoint is named, or it belongs to another config.
            FileNotFoundError: a file is missing.
        """
        if not cfg.train.init_checkpoint:
            raise ValueError("an evaluation needs train.init_checkpoint=PATH")
        seed_generators(cfg.train.seed)
        disable_pretrained(cfg.model)
        use_saved_vocabulary(cfg, cfg.train.init_checkpoint)
        share_vocabulary(cfg)
        Path(cfg.train.output_dir).mkdir(parents=True, exist_ok=True)
        model = instantiate(cfg.model).to(choose_device(cfg.train.device))
        AtomicCheckpointer(model).load_weights(
            cfg.train.init_checkpoint, strict=True, prefer_average=cfg.train.ema.enabled
        )
        return cls.of_model(cfg, model)

    @classmethod
    def of_model(
        cls, cfg: DictConfig, model: nn.Module, ema: ExponentialMovingAverage | None = None
    ) -> Evaluation:
        """For a model that exists, on the config's ``dataloader.test``.

        Raises:
            ValueError: the test set cannot be scored as the config asks.
            FileNotFoundError: a file is missing.
        """
        loader = instantiate(cfg.dataloader.test)
        evaluator = instantiate(cfg.dataloader.evaluator)
        if isinstance(evaluator, ChecksBeforehand):
            evaluator.check()
        return cls(model, loader, evaluator, cfg.train.output_dir, ema)

    def weights(self) -> Mapping[str, Tensor]:
        """What is evaluated, and what one predicts with: averaged weights if there are such."""
        return self.model.state_dict() if self.ema is None else self.ema.weights

    def run(self) -> dict[str, Any]:
        """Evaluates.

        Returns:
            Task -> figure -> value; empty outside the main process.
        """
        with nullcontext() if self.ema is None else self.ema.applied_to(self.model):
            results = inference_on_dataset(self.model, self.loader, self.evaluator)
        if comm.is_main_process():
            print_csv_format(results)
            text = json.dumps(_without_nan(results), indent=2)
            path = Path(self.folder, "results.json")
            write_atomically(path, lambda file: file.write(text.encode()))
        return results


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value

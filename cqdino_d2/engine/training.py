"""From a config to a training or an evaluation."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig
from torch import Tensor, nn

from ..structures import Vocabulary, load_vocabulary, write_atomically
from .checkpointer import AtomicCheckpointer
from .config import disable_pretrained, share_vocabulary, use_saved_vocabulary
from .ema import ExponentialMovingAverage
from .hooks import build_hooks
from .seeding import seed_generators
from .trainer import Precision, Trainer

_LOGGER = logging.getLogger(__name__)

EmbeddingLoader = Callable[[str, Vocabulary, int], Tensor]


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is a GPU.

    Raises:
        ValueError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise ValueError(f"train.device is {name!r}, but no GPU can be used here")
    return torch.device(name)


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
        """For a model that exists, on the config's ``dataloader.test``."""
        loader = instantiate(cfg.dataloader.test)
        evaluator = instantiate(cfg.dataloader.evaluator)
        return cls(model, loader, evaluator, cfg.train.output_dir, ema)

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


@dataclass(frozen=True)
class Training:
    """A training that is ready to run.

    Attributes:
        trainer: with all hooks.
        evaluation: of the present weights.
        start_iter: the first iteration to do.
        max_iter: one after the last.
    """

    trainer: Trainer
    evaluation: Evaluation
    start_iter: int
    max_iter: int

    @classmethod
    def prepare(
        cls, cfg: DictConfig, *, resume: bool, load_embeddings: EmbeddingLoader
    ) -> Training:
        """Builds everything and loads what there is to load.

        Writes ``config.yaml`` and ``vocabulary.json`` into ``train.output_dir`` once all is ready.

        Args:
            cfg: the whole config; it is filled in.
            resume: go on from the last checkpoint in ``train.output_dir``, if there is one.
            load_embeddings: (path, vocabulary, dim) -> (V, dim) category embeddings.

        Raises:
            ValueError: something in the config or a file does not fit.
            FileNotFoundError: a file is missing.
        """
        settings, as_given = cfg.train, copy.deepcopy(cfg)
        Path(settings.output_dir).mkdir(parents=True, exist_ok=True)
        resume = resume and Path(settings.output_dir, "last_checkpoint").is_file()
        device = choose_device(settings.device)
        seed_generators(settings.seed)
        vocabulary = share_vocabulary(cfg)
        if resume:
            _check_same_vocabulary(settings.output_dir, vocabulary)
        model = _build_model(cfg, vocabulary, None if resume else load_embeddings).to(device)
        ema = None
        if settings.ema.enabled:
            ema = ExponentialMovingAverage(model=model, decay=settings.ema.decay)
        optimizer = build_optimizer(cfg.optimizer, model)
        scheduler = LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), settings.max_iter)
        precision = Precision.from_name(device_type=device.type, **settings.amp)
        states = dict(optimizer=optimizer, scheduler=scheduler, ema=ema, scaler=precision.scaler)
        present = {name: state for name, state in states.items() if state is not None}
        checkpointer = AtomicCheckpointer(model, settings.output_dir, **present)
        start_iter = checkpointer.resume() if resume else 0
        cfg.dataloader.train.start_iter = start_iter
        trainer = Trainer(
            model=wrap_for_processes(model, device, **settings.ddp),
            data_loader=instantiate(cfg.dataloader.train),
            optimizer=optimizer,
            seed=settings.seed,
            precision=precision,
            max_norm=settings.clip_grad.max_norm,
            ema=ema,
        )
        evaluation = Evaluation.of_model(cfg, model, ema)
        hooks = build_hooks(
            checkpointer=checkpointer,
            scheduler=scheduler,
            ema=ema,
            settings=settings,
            start_iter=start_iter,
            evaluate=evaluation.run,
        )
        trainer.register_hooks(hooks)
        if comm.is_main_process():
            _describe_run(Path(settings.output_dir), as_given, vocabulary)
        return cls(trainer, evaluation, start_iter, settings.max_iter)

    def run(self) -> None:
        """Trains to the end, or only evaluates where the training was complete already."""
        if self.start_iter < self.max_iter:
            self.trainer.train(self.start_iter, self.max_iter)
        else:
            _LOGGER.info("All %d iterations were done before", self.max_iter)
            self.evaluation.run()


def _check_same_vocabulary(folder: str, vocabulary: Vocabulary) -> None:
    """Raises ValueError if a training in the folder had other categories."""
    path = Path(folder, "vocabulary.json")
    if path.is_file() and load_vocabulary(path).dataset_ids != vocabulary.dataset_ids:
        raise ValueError(f"cannot resume: {path} has other categories than this config's data set")


def _describe_run(folder: Path, cfg: DictConfig, vocabulary: Vocabulary) -> None:
    """Writes the config and the vocabulary, each whole or not at all."""
    temporary = folder / "config.tmp.yaml"
    LazyConfig.save(cfg, str(temporary))
    temporary.replace(folder / "config.yaml")
    vocabulary.save(folder / "vocabulary.json")


def _build_model(
    cfg: DictConfig, vocabulary: Vocabulary, load_embeddings: EmbeddingLoader | None
) -> nn.Module:
    """The model with the weights that a training starts from.

    Args:
        cfg: the whole config.
        vocabulary: of the config.
        load_embeddings: see `Training.prepare`; None leaves all loading to the checkpoint that
            is resumed from.
    """
    settings = cfg.train
    if load_embeddings is None:
        disable_pretrained(cfg.model)
        return instantiate(cfg.model)
    model = instantiate(cfg.model)
    if settings.category_embeddings:
        dim = model.categories.embeddings.shape[1]
        embeddings = load_embeddings(settings.category_embeddings, vocabulary, dim)
        model.categories.load_embeddings(embeddings)
    if settings.init_checkpoint:
        AtomicCheckpointer(model).load_weights(
            settings.init_checkpoint, strict=False, prefer_average=True
        )
    return model


def build_optimizer(node: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimizer over a model; its options are plain values, as checkpoints need them."""
    node.params.model = model
    optimizer = instantiate(node)
    for group in optimizer.param_groups:
        lists = {key: tuple(item) for key, item in group.items() if isinstance(item, ListConfig)}
        group.update(lists)
    return optimizer


def wrap_for_processes(
    model: nn.Module,
    device: torch.device,
    *,
    sync_buffers: bool = False,
    find_unused_parameters: bool = False,
) -> nn.Module:
    """Wraps the model in DistributedDataParallel if several processes train.

    Args:
        model: the model on its device.
        device: of this process.
        sync_buffers: copy the first process's buffers to the others in every forward pass.
        find_unused_parameters: for models that leave parameters out of some passes.
    """
    if comm.get_world_size() == 1:
        return model
    parallel = nn.parallel.DistributedDataParallel
    renamed = "forward_sync_buffers" in inspect.signature(parallel.__init__).parameters
    return parallel(
        model,
        device_ids=[comm.get_local_rank()] if device.type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
        **{"forward_sync_buffers" if renamed else "broadcast_buffers": sync_buffers},
    )

"""From a config to a training or an evaluation."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import Tensor, nn

from ..files import write_atomically
from ..structures import Vocabulary, load_vocabulary
from .activation_checkpointing import checkpoint_blocks
from .checkpointer import AtomicCheckpointer
from .compiling import compile_parts
from .config import disable_pretrained, plain_container, share_vocabulary
from .ema import ExponentialMovingAverage
from .evaluation import Evaluation
from .hooks import build_hooks
from .lengths import resolve_lengths
from .optimizers import build_optimizer, scale_learning_rate
from .placement import choose_device, describe_machine, wrap_for_processes
from .seeding import seed_generators
from .trainer import NonFiniteError, Precision, Trainer

_LOGGER = logging.getLogger(__name__)

EmbeddingLoader = Callable[[str, Vocabulary, int], Tensor]


@dataclass(frozen=True)
class Training:
    """A training that is ready to run.

    Attributes:
        trainer: with all hooks.
        evaluation: of the present weights.
        checkpointer: of everything that a training goes on from.
        start_iter: the first iteration to do.
        max_iter: one after the last.
    """

    trainer: Trainer
    evaluation: Evaluation
    checkpointer: AtomicCheckpointer
    start_iter: int
    max_iter: int

    @classmethod
    def prepare(
        cls, cfg: DictConfig, *, resume: bool, load_embeddings: EmbeddingLoader
    ) -> Training:
        """Builds everything and loads what there is to load.

        Writes ``config.yaml``, ``vocabulary.json`` and ``machine.json`` (device, instruction set,
        the types that were chosen) into ``train.output_dir`` once all is ready.

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
        scale_learning_rate(cfg)
        optimizer = build_optimizer(cfg.optimizer, model, sharded=settings.shard_optimizer)
        precision = Precision.from_name(device_type=device.type, **settings.amp)
        states = dict(optimizer=optimizer, ema=ema, scaler=precision.scaler)
        present = {name: state for name, state in states.items() if state is not None}
        checkpointer = AtomicCheckpointer(model, settings.output_dir, **present)
        start_iter = checkpointer.resume() if resume else 0
        trainer = Trainer(
            model=_set_up_model(model, settings, device),
            data_loader=_build_loader(cfg, start_iter),
            optimizer=optimizer,
            seed=settings.seed,
            precision=precision,
            max_norm=settings.clip_grad.max_norm,
            ema=ema,
            num_parts=settings.accumulate,
        )
        evaluation = Evaluation.of_model(cfg, model, ema)
        hooks = build_hooks(
            checkpointer=checkpointer,
            scheduler=_build_scheduler(cfg, optimizer, start_iter),
            evaluation=evaluation,
            settings=settings,
            start_iter=start_iter,
            config=plain_container(as_given),
        )
        trainer.register_hooks(hooks)
        if comm.is_main_process():
            machine = describe_machine(device, cfg.model, precision.dtype)
            _describe_run(Path(settings.output_dir), as_given, vocabulary, machine)
        return cls(trainer, evaluation, checkpointer, start_iter, settings.max_iter)

    def run(self) -> None:
        """Trains to the end, or only evaluates where the training was complete already.

        Raises:
            NonFiniteError: a loss or gradient is not finite; a checkpoint of the state before
                that step has been written.
        """
        if self.start_iter >= self.max_iter:
            _LOGGER.info("All %d iterations were done before", self.max_iter)
            self.evaluation.run()
            return
        try:
            self.trainer.train(self.start_iter, self.max_iter)
        except NonFiniteError:
            self._save_last_good_state()
            raise

    def _save_last_good_state(self) -> None:
        last = self.trainer.iter - 1
        if last < 0:
            _LOGGER.error("The first step failed: there is nothing to save")
            return
        self.checkpointer.save(f"model_{last:07d}", iteration=last)
        _LOGGER.error("The state after iteration %d is saved; --resume repeats the step", last)


def _build_loader(cfg: DictConfig, start_iter: int) -> Iterable[list[dict[str, Any]]]:
    """The batches from an iteration on; lengths in epochs are settled with it."""
    cfg.dataloader.train.start_iter = start_iter
    loader = instantiate(cfg.dataloader.train)
    resolve_lengths(cfg, loader)
    return loader


def _set_up_model(model: nn.Module, settings: DictConfig, device: torch.device) -> nn.Module:
    """The model with what ``train`` says about memory, speed and processes."""
    checkpoint_blocks(model, settings.activation_checkpointing)
    compile_parts(model, **settings.compile)
    return wrap_for_processes(model, device, **settings.ddp)


def _build_scheduler(
    cfg: DictConfig, optimizer: torch.optim.Optimizer, start_iter: int
) -> LRMultiplier:
    """The rate of an iteration follows from its number, so that there is nothing to load."""
    schedule = instantiate(cfg.lr_multiplier)
    return LRMultiplier(optimizer, schedule, cfg.train.max_iter, last_iter=start_iter - 1)


def _check_same_vocabulary(folder: str, vocabulary: Vocabulary) -> None:
    """Raises ValueError if a training in the folder had other categories."""
    path = Path(folder, "vocabulary.json")
    if path.is_file() and load_vocabulary(path).dataset_ids != vocabulary.dataset_ids:
        raise ValueError(f"cannot resume: {path} has other categories than this config's data set")


def _describe_run(
    folder: Path, cfg: DictConfig, vocabulary: Vocabulary, machine: dict[str, Any]
) -> None:
    """Writes config, vocabulary and machine, each whole or not at all."""
    temporary = folder / "config.tmp.yaml"
    LazyConfig.save(cfg, str(temporary))
    temporary.replace(folder / "config.yaml")
    vocabulary.save(folder / "vocabulary.json")
    text = json.dumps(machine, indent=2) + "\n"
    write_atomically(folder / "machine.json", lambda file: file.write(text.encode()))


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

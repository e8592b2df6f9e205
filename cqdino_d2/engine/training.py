"""From a config to a training or an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import Tensor, nn

from ..structures import Vocabulary
from ..structures.stages import ReadiesTraining, TakesEmbeddings
from .activation_checkpointing import checkpoint_blocks
from .checkpointer import AtomicCheckpointer, SavedState
from .compiling import compile_parts
from .config import (
    SettledTraining,
    check_same_vocabulary,
    plain_container,
    report_changes,
    settle_training,
    write_record,
)
from .ema import ExponentialMovingAverage
from .evaluation import Evaluation
from .freezing import freeze_parts
from .hooks import build_hooks
from .optimizers import build_optimizer
from .placement import choose_device, describe_machine, wrap_for_processes
from .processes import FolderLock
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
        checkpointer: of everything that a training is resumed from.
        start_iter: the first iteration to do.
        max_iter: one after the last.
        lock: keeps other runs out of the folder until `run` is over; the main process has it.
    """

    trainer: Trainer
    evaluation: Evaluation
    checkpointer: AtomicCheckpointer
    start_iter: int
    max_iter: int
    lock: FolderLock | None = None

    @classmethod
    def prepare(
        cls, cfg: DictConfig, *, resume: bool, load_embeddings: EmbeddingLoader
    ) -> Training:
        """Builds everything and loads what there is to load.

        Writes ``config.yaml``, ``vocabulary.json`` and ``machine.json`` (device, instruction set,
        the types that were chosen) into ``train.output_dir`` once all is ready.

        Args:
            cfg: the whole config; it stays as it is.
            resume: from the last checkpoint in ``train.output_dir``, if there is one. Everything
                that the config says now applies; what cannot change is refused, and what differs
                from before is logged.
            load_embeddings: (path, vocabulary, dim) -> (V, dim) category embeddings.

        Raises:
            ValueError: something in the config or a file does not fit.
            FileNotFoundError: a file is missing.
            FolderInUseError: another process trains or evaluates in that folder.
        """
        folder = Path(cfg.train.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder) if comm.is_main_process() else None
        seed_generators(cfg.train.seed)
        saved = SavedState.last_in(folder) if resume else None
        settled = settle_training(cfg, start_iter=saved and saved.start_iter)
        if saved is not None and comm.is_main_process():
            check_same_vocabulary(folder, settled.vocabulary)
            report_changes(folder, cfg)
        states = _States.build(settled, None if saved else load_embeddings)
        checkpointer = AtomicCheckpointer(states.model, str(folder), **states.checkpointed())
        if saved is not None:
            checkpointer.restore(saved)
        evaluation = Evaluation.of_model(
            settled.cfg, states.model if states.ema is None else states.ema.model
        )
        trainer = _build_trainer(settled, states)
        hooks = build_hooks(
            checkpointer=checkpointer,
            scheduler=_build_scheduler(settled, states.optimizer),
            evaluation=evaluation,
            settings=settled.cfg.train,
            start_iter=settled.start_iter,
            config=plain_container(cfg),
        )
        trainer.register_hooks(hooks)
        if comm.is_main_process():
            machine = describe_machine(
                choose_device(cfg.train.device), settled.cfg.model, states.precision.dtype
            )
            write_record(folder, cfg, settled.vocabulary, machine)
        return cls(
            trainer, evaluation, checkpointer, settled.start_iter, settled.cfg.train.max_iter, lock
        )

    def run(self) -> None:
        """Trains to the end, or only evaluates where the training was complete already.

        Raises:
            NonFiniteError: a loss or gradient is not finite; a checkpoint of the state before
                that step has been written.
        """
        try:
            if self.start_iter >= self.max_iter:
                _LOGGER.info("All %d iterations were done before", self.max_iter)
                self.evaluation.run()
            else:
                self.trainer.train(self.start_iter, self.max_iter)
        except NonFiniteError:
            self._save_last_good_state()
            raise
        finally:
            if self.lock is not None:
                self.lock.release()

    def _save_last_good_state(self) -> None:
        last = self.trainer.iter - 1
        if last < 0:
            _LOGGER.error("The first step failed: there is nothing to save")
            return
        self.checkpointer.save(f"model_{last:07d}", iteration=last)
        _LOGGER.error("The state after iteration %d is saved; --resume repeats the step", last)


@dataclass(frozen=True)
class _States:
    """What changes in a training and is in its checkpoints."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: ExponentialMovingAverage | None
    precision: Precision

    @classmethod
    def build(cls, settled: SettledTraining, load_embeddings: EmbeddingLoader | None) -> _States:
        """All of it on its device, as a training starts.

        Args:
            settled: what to build.
            load_embeddings: see `Training.prepare`; None leaves all loading to the checkpoint
                that is resumed from.
        """
        cfg, settings = settled.cfg, settled.cfg.train
        device = choose_device(settings.device)
        seed_generators(settings.seed)  # again: first weights follow from the seed alone
        model = instantiate(cfg.model)
        if load_embeddings is not None:
            _load_first_weights(model, settled, load_embeddings)
        if isinstance(model, ReadiesTraining):
            model.ready_for_training()
        freeze_parts(model, settings.get("frozen", []), settings.get("trained", []))
        model = model.to(device)
        return cls(
            model=model,
            optimizer=build_optimizer(cfg.optimizer, model, sharded=settings.shard_optimizer),
            ema=ExponentialMovingAverage(model=model, decay=settings.ema.decay)
            if settings.ema.enabled
            else None,
            precision=Precision.from_name(device_type=device.type, **settings.amp),
        )

    def checkpointed(self) -> dict[str, Any]:
        """Name -> state besides the model."""
        states = {"optimizer": self.optimizer, "ema": self.ema, "scaler": self.precision.scaler}
        return {name: state for name, state in states.items() if state is not None}


def _load_first_weights(
    model: nn.Module, settled: SettledTraining, load_embeddings: EmbeddingLoader
) -> None:
    """The text features and weights that a new training starts from."""
    settings = settled.cfg.train
    if settings.category_embeddings:
        if not isinstance(model.categories, TakesEmbeddings):
            raise ValueError(
                f"train.category_embeddings: {type(model.categories).__name__} takes no embeddings"
            )
        dim = model.categories.embeddings.shape[1]
        embeddings = load_embeddings(settings.category_embeddings, settled.vocabulary, dim)
        model.categories.load_embeddings(embeddings)
    if settings.init_checkpoint:
        AtomicCheckpointer(model).load_weights(
            settings.init_checkpoint, strict=False, prefer_average=True
        )


def _build_trainer(settled: SettledTraining, states: _States) -> Trainer:
    """With the model as ``train`` wants it for memory, speed and processes."""
    settings, model = settled.cfg.train, states.model
    checkpoint_blocks(model, settings.activation_checkpointing)
    compile_parts(model, **settings.compile)
    return Trainer(
        model=wrap_for_processes(model, choose_device(settings.device), **settings.ddp),
        data_loader=settled.loader,
        optimizer=states.optimizer,
        seed=settings.seed,
        precision=states.precision,
        max_norm=settings.clip_grad.max_norm,
        ema=states.ema,
        num_parts=settings.accumulate,
    )


def _build_scheduler(settled: SettledTraining, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    """The rate of an iteration follows from its number, so that there is nothing to load."""
    schedule, last_iter = instantiate(settled.cfg.lr_multiplier), settled.start_iter - 1
    return LRMultiplier(optimizer, schedule, settled.cfg.train.max_iter, last_iter=last_iter)

"""Training, checkpoints and the config for Detectron2's predictor."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .checkpointer import AtomicCheckpointer, WeightsReport
from .config import load_config
from .ema import ExponentialMovingAverage
from .evaluation import Evaluation
from .interpolation import interpolated
from .parameter_groups import get_parameter_groups
from .processes import (
    INTERRUPTED,
    FolderInUseError,
    FolderLock,
    LaunchError,
    ProcessFailedError,
    launch,
    one_line_errors,
    report_a_full_disk_once,
)
from .progress import Pace, duration, measure_pace
from .schedules import cosine_schedule, multi_step_schedule
from .seeding import seed_generators, seed_iteration
from .trainer import NonFiniteError, Precision, Trainer
from .training import Training

__all__ = [
    "INTERRUPTED",
    "AtomicCheckpointer",
    "Evaluation",
    "ExponentialMovingAverage",
    "FolderInUseError",
    "FolderLock",
    "LaunchError",
    "NonFiniteError",
    "Pace",
    "Precision",
    "ProcessFailedError",
    "Trainer",
    "Training",
    "WeightsReport",
    "cosine_schedule",
    "duration",
    "get_parameter_groups",
    "interpolated",
    "launch",
    "load_config",
    "measure_pace",
    "multi_step_schedule",
    "one_line_errors",
    "report_a_full_disk_once",
    "seed_generators",
    "seed_iteration",
]

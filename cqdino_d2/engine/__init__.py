"""Training, checkpoints and the config for Detectron2's predictor."""

from .checkpointer import AtomicCheckpointer, WeightsReport
from .config import load_config, share_vocabulary
from .ema import ExponentialMovingAverage
from .evaluation import Evaluation
from .launch import LaunchError, launch
from .parameter_groups import get_parameter_groups
from .progress import Pace, duration, measure_pace
from .schedules import cosine_schedule, multi_step_schedule
from .seeding import seed_generators, seed_iteration
from .trainer import NonFiniteError, Precision, Trainer
from .training import Training

__all__ = [
    "AtomicCheckpointer",
    "Evaluation",
    "ExponentialMovingAverage",
    "LaunchError",
    "NonFiniteError",
    "Pace",
    "Precision",
    "Trainer",
    "Training",
    "WeightsReport",
    "cosine_schedule",
    "duration",
    "get_parameter_groups",
    "launch",
    "load_config",
    "measure_pace",
    "multi_step_schedule",
    "seed_generators",
    "seed_iteration",
    "share_vocabulary",
]

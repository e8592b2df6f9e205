"""Sends a training's figures to Weights & Biases, for those who ask for it."""

from __future__ import annotations

import importlib
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventWriter, get_event_storage

from ..files import write_atomically

_RUN_ID = "wandb_run_id"


class WandbWriter(EventWriter):
    """Logs every scalar over ``iteration``; a resumed training continues its run.

    Args:
        folder: of the training; holds the run's id.
        window: N; scalars are medians over N iterations.
        config: shown with the run.
        resumed: this training is resumed from a checkpoint.
        settings: arguments of ``wandb.init``, e.g. ``project``.

    Raises:
        ValueError: the package wandb is missing.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        window: int,
        config: dict[str, Any],
        resumed: bool,
        **settings: Any,
    ) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise ValueError(
                "train.wandb.project is set, but the package wandb is missing: pip install wandb, "
                "or train.wandb.project=null"
            ) from error
        path = Path(folder, _RUN_ID)
        run_id = path.read_text() if resumed and path.is_file() else uuid.uuid4().hex[:16]
        write_atomically(path, lambda file: file.write(run_id.encode()))
        self._run = wandb.init(
            id=run_id, resume="allow", dir=str(folder), config=config, **settings
        )
        self._run.define_metric("*", step_metric="iteration")
        self._window, self._last = window, -1

    def write(self) -> None:
        """Sends what is new."""
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window)
        for name, (value, iteration) in latest.items():
            if iteration > self._last:
                rows[iteration][name] = value
        for iteration in sorted(rows):
            self._run.log({**rows[iteration], "iteration": iteration})
            self._last = iteration

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()

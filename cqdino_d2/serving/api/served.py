"""From the models and settings of a server to its application."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI

from ..limits import ApiLimits
from ..models import Models, load_predictors
from ..runner import Batching, Runner
from ..server_settings import NamedModel
from .app import make_api
from .detection import Detector
from .metrics import Metrics


def load_api(
    models: Iterable[NamedModel],
    *,
    host: str,
    device: str | None = None,
    batching: Batching | None = None,
    limits: ApiLimits | None = None,
    folder: Path | None = None,
    token: str | None = None,
) -> tuple[FastAPI, Runner]:
    """Loads the models; gives the application and what runs them, which is to be closed.

    Args:
        models: of the server, the default one first.
        host: address that it listens at, see `make_api`.
        device: of the models; None: a GPU where there is one.
        batching: how requests are put together.
        limits: of the server.
        folder: whose images requests may name by their path; None for none.
        token: that clients must bring; None for none.

    Raises:
        ValueError, OSError: see `load_predictor`.
    """
    limits, metrics = limits or ApiLimits(), Metrics()
    predictors = load_predictors(models, device)
    runner = Runner(predictors, batching, metrics.count_batch)
    detector = Detector(Models(predictors, max_pixels=limits.pixels, runner=runner), limits, folder)
    return make_api(detector, host=host, limits=limits, metrics=metrics, token=token), runner

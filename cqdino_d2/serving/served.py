"""From the models and settings of a server to its application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from .api.app import make_api
from .api.detection import Detector
from .api.metrics import Metrics
from .limits import ApiLimits, PageLimits
from .models import Models, load_predictors
from .refusals import LOCAL_HOSTS
from .runner import Batching, Runner
from .server_settings import NamedModel


@dataclass(frozen=True)
class Served:
    """An application and what runs its models, which is to be closed.

    Attributes:
        app: the application.
        runner: of its models.
        end_streams: see `PageApp`; None where there is no page.
    """

    app: FastAPI
    runner: Runner
    end_streams: Callable[[], None] | None = None


def load_api(
    models: Iterable[NamedModel],
    *,
    host: str,
    device: str | None = None,
    batching: Batching | None = None,
    limits: ApiLimits | None = None,
    folder: Path | None = None,
    token: str | None = None,
    page_folder: Path | None = None,
) -> Served:
    """Loads the models for the HTTP API and, where that is wanted, a page over the same models.

    Args:
        models: of the server, the default one first.
        host: address that it listens at, see `make_api`.
        device: of the models; None: a GPU where there is one.
        batching: how requests are put together.
        limits: of the server.
        folder: whose images requests may name by their path; None for none.
        token: that clients must bring; None for none.
        page_folder: for the page's uploads and drawn images alone; None for no page.

    Raises:
        ModuleNotFoundError: a page is wanted, and gradio is not installed.
        ValueError, OSError: see `load_predictor`.
    """
    limits, metrics = limits or ApiLimits(), Metrics()
    if page_folder is not None:  # where gradio is missing, that is said before anything is loaded
        from .web_app import make_page_app
    predictors = load_predictors(models, device)
    runner = Runner(predictors, batching, metrics.count_batch)
    shared = Models(predictors, limits=limits, runner=runner)
    detector = Detector(shared, limits, folder)
    options = {"host": host, "limits": limits, "metrics": metrics, "token": token}
    if page_folder is None:
        return Served(make_api(detector, **options), runner)
    own = {"limits": PageLimits.beside(limits), "is_local": host in LOCAL_HOSTS}
    page = make_page_app(shared, folder=page_folder, **own)
    return Served(make_api(detector, page=page.app, **options), runner, page.end_streams)

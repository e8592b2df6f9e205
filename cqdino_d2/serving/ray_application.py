"""The HTTP API as an application of Ray Serve: replicas of a server on the machines of a cluster.

serve run cqdino_d2.serving.ray_application:build model=emoji=CONFIG,WEIGHTS replicas=4 gpus=1
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from ..files import require_package
from .runner import Batching
from .served import load_api
from .server_settings import named_model, read_token

_ANYWHERE = "0.0.0.0"  # Ray's proxy listens; which names lead there is its affair
_KNOWN = {"model", "replicas", "cpus", "gpus", "device", "folder", "max_batch"}


def build(arguments: Mapping[str, str]) -> Any:
    """The application that ``serve run`` or ``ray.serve.run`` starts.

    Args:
        arguments: ``model`` is NAME=CONFIG,WEIGHTS, several separated by ';'; ``replicas`` (1) are
            servers with models of their own, ``cpus`` (1) and ``gpus`` (0) what each of them gets;
            ``device``, ``folder`` and ``max_batch`` are those of serve.py. The token is that of
            the environment where this runs.

    Raises:
        ModuleNotFoundError: Ray Serve is not installed.
        ValueError: an argument that is unknown, missing or cannot be read.
    """
    serve = require_package("ray.serve", "a deployment on Ray", ("ray[serve]",))
    unknown = sorted(arguments.keys() - _KNOWN)
    if unknown or not arguments.get("model"):
        raise ValueError(
            f"expected model=NAME=CONFIG,WEIGHTS and of {', '.join(sorted(_KNOWN))}, got "
            f"{', '.join(unknown or arguments) or 'nothing'}"
        )
    models = [named_model(text) for text in arguments["model"].split(";")]
    batching = Batching(most=int(arguments.get("max_batch", 4)))
    folder = arguments.get("folder")
    settings = {
        "host": _ANYWHERE,
        "device": arguments.get("device"),
        "batching": batching,
        "folder": None if folder is None else Path(folder),
        "token": read_token(),
    }

    def make() -> FastAPI:
        return load_api(models, **settings).app

    deployment = serve.deployment(
        serve.ingress(make)(),
        name="detection",
        num_replicas=int(arguments.get("replicas", 1)),
        max_ongoing_requests=batching.queue,
        ray_actor_options={
            "num_cpus": float(arguments.get("cpus", 1)),
            "num_gpus": float(arguments.get("gpus", 0)),
        },
    )
    return deployment.bind()

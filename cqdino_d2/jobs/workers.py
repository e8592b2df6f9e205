"""Who does the parts of a job: this process, or workers on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..files import require_package
from .batch_job import BatchJob, PartSummary


@dataclass(frozen=True)
class RayWorkers:
    """Workers on a Ray cluster, each with a model of its own.

    Attributes:
        number: how many.
        cpus: cores of each.
        gpus: of each; a share lets several have one.
        address: of a running cluster, as ``ray.init`` takes it; None starts one on this machine.
    """

    number: int
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None


def do_here(job: BatchJob) -> Iterator[PartSummary]:
    """The missing parts one after the other, in this process."""
    predictor = job.settings.load()
    job.claim()
    for part in job.missing_parts():
        yield job.do_part(part, predictor)


def do_on_ray(job: BatchJob, workers: RayWorkers) -> Iterator[PartSummary]:
    """The missing parts, as workers finish them; images and results are on a disk that all see.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: no worker, or a worker failed.
    """
    if workers.number < 1:
        raise ValueError(f"a job needs at least 1 worker, got {workers.number}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    ray = require_package("ray", "a job with workers", ("ray[data]",))
    require_package("ray.data", "a job with workers", ("ray[data]",))
    job.settings.check_weights()  # the workers load them; what is wrong is better said by one
    job.claim()
    started = not ray.is_initialized()
    if started:
        local = {} if workers.address else {"include_dashboard": False}
        ray.init(workers.address, log_to_driver=False, logging_level=logging.WARNING, **local)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised as well
        parts = [{"part": part} for part in job.missing_parts()]
        done = ray.data.from_items(parts, override_num_blocks=len(parts)).map(
            PartWorker,
            fn_constructor_args=(job,),
            concurrency=workers.number,
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
        )
        for row in done.iter_rows():
            yield PartSummary(**{key: int(value) for key, value in row.items()})
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]  # before it stand the workers' traces
        raise ValueError(f"a worker failed: {last}") from error
    finally:
        if started:
            ray.shutdown()


class PartWorker:
    """Does parts in a process of its own, which loads the model once."""

    def __init__(self, job: BatchJob) -> None:
        self.job, self.predictor = job, job.settings.load()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``{"part": number}`` -> fields of `PartSummary`."""
        return asdict(self.job.do_part(int(row["part"]), self.predictor))

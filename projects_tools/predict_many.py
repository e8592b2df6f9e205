"""Predicts very many images into Parquet files: in parts, resumable, on one machine or many.

Examples:
    python projects_tools/predict_many.py --config-file configs/own/shapes.py \\
        --weights output/shapes/model_inference.pth --input photos --output output/predicted
    python projects_tools/predict_many.py --config-file configs/grounding_dino/mm_swint.py \\
        --weights models/mm_swint/model.pth --input list.txt --output output/predicted \\
        --text "a cat. a red ball." --workers 8 --gpus-per-worker 1 --address auto

The input is a folder, or a text file with a name below its own folder in each line. The same
command does what is missing of a job that was stopped. With --workers a Ray cluster does the parts
(pip install "ray[data]"): that at --address, or one made on this machine; input, weights and output
must be where all its machines find them.

A row has image, height, width, labels, category_ids, scores, boxes_xyxy (pixels) and error.
--retry-failed does parts anew that have images with an error. The exit code is 1 if images of the
job could not be done, and 2 if nothing could.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from cqdino_d2.structures import log_to_terminal, one_line
from cqdino_d2.structures.question_options import add_question_arguments

if TYPE_CHECKING:  # what takes seconds to import is imported once the command line is read
    from cqdino_d2.jobs import BatchJob, PartSummary

_MILLION = 1_000_000


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--weights", required=True, metavar="FILE")
    add("--input", required=True, type=Path, metavar="FOLDER|FILE")
    add("--output", required=True, type=Path, metavar="DIR")
    add("--threshold", type=float, default=0.3, help="confidence threshold (0.3)")
    add("--nms", type=float, metavar="IOU", help="of overlapping boxes keep the best")
    add("--part-size", type=int, default=1000, metavar="N", help="images in a file (1000)")
    add("--batch-size", type=int, default=8, metavar="B", help="images at once (8)")
    add("--retry-failed", action="store_true", help="do parts with failed images anew")
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    add("--workers", type=int, default=0, metavar="N", help="0: this process does it all (0)")
    add("--cpus-per-worker", type=float, default=1.0, metavar="N")
    add("--gpus-per-worker", type=float, default=0.0, metavar="N")
    add("--address", help="address of a Ray cluster")
    add(
        "--price-per-hour", type=float, metavar="P", help="of all machines, for the cost at the end"
    )
    add_question_arguments(parser)
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    given = parser.parse_args(arguments)
    if given.workers < 0:
        parser.error(f"--workers must be at least 0, got {given.workers}")
    return given


def predict(given: argparse.Namespace) -> int:
    """Does what is missing; how many images of the job could not be done."""
    from cqdino_d2.jobs import BatchJob, JobSettings
    from cqdino_d2.prediction.question_arguments import question_of

    settings = JobSettings(
        config_file=given.config_file,
        weights=given.weights,
        question=replace(question_of(given), nms_threshold=given.nms),
        threshold=given.threshold,
        overrides=tuple(given.overrides),
        part_size=given.part_size,
        batch_size=given.batch_size,
        device=given.device,
    )
    job = BatchJob(settings, given.input.resolve(), given.output.resolve())
    if given.retry_failed:
        job.forget_failed()
    missing = job.missing_parts()
    print(f"{len(job.names):,} images in {job.num_parts:,} parts, {len(missing):,} to do")
    if missing:
        do(job, missing, given)
    if failed := job.num_failed():
        print(f"{failed:,} images of the job could not be done: see the column error")
    return failed


def do(job: BatchJob, missing: Sequence[int], given: argparse.Namespace) -> None:
    """Does the missing parts, with a progress bar, and says what it took."""
    from cqdino_d2.jobs.workers import RayWorkers, do_here, do_on_ray

    if given.workers:
        workers = (given.workers, given.cpus_per_worker, given.gpus_per_worker, given.address)
        doing = do_on_ray(job, RayWorkers(*workers))
    else:
        doing = do_here(job)
    started = time.monotonic()
    done = list(tqdm(doing, total=len(missing), unit="part", disable=None))
    print(report(done, time.monotonic() - started, given.price_per_hour))


def report(done: Sequence[PartSummary], seconds: float, price_per_hour: float | None) -> str:
    """What was done, how fast, and what a million images take."""
    images, boxes, failed = (
        sum(getattr(s, n) for s in done) for n in ("images", "boxes", "failed")
    )
    hours = seconds * _MILLION / images / 3600
    lines = [
        f"{images:,} images, {boxes:,} boxes, {failed:,} images that could not be done",
        f"{images / seconds:.1f} images/s with loading the model; a million take {hours:.1f} hours",
    ]
    if price_per_hour is not None:
        lines[-1] += f" and cost {hours * price_per_hour:.2f}"
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predicts; returns the exit code."""
    given = parse_arguments(arguments)
    log_to_terminal("%(message)s", logging.WARNING)
    try:
        return 1 if predict(given) else 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"predict_many: {one_line(str(error))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""How time and memory grow along one axis: measured points, for the laws of how_cost_grows.md.

Example:
    OMP_NUM_THREADS=1 python projects_tools/benchmark.py growth --axis vocabulary --json grown.json

vocabulary, image_size and batch time predictions of CQ-DINO, boxes its training steps, names the
predictions of Grounding DINO, all with Swin-T and random weights, 1,000 categories and an image of
320 x 320 where the axis does not say otherwise; results scores made-up results of 1,000 categories.
Seconds are processor seconds, medians after one call that warms up; memory is the peak of a call
above what was in use before, of results that of the whole process. Points after one that takes
longer than --most-seconds are left out. Prints a line for each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks import make_synthetic_results as synthetic
from benchmarks.machine import add_json_argument, processor_name, write_figures
from benchmarks.stage_clock import PeakMemory
from benchmarks.text_prompts import ROOT
from benchmarks.time_model import make_batch
from detectron2.config import LazyConfig, instantiate
from torch import nn

from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import with_vocabulary, without_pretrained
from cqdino_d2.structures import ClassRequest, random_vocabulary

Call = Callable[[], Any]
TOOL = ROOT / "projects_tools/evaluate_results.py"
SIZES = {  # a CQ-DINO and a model by words, their categories and the side of their image
    "swin_t": ("emojidet/cqdino_tree_swint", "models/grounding_dino", 1000, 320),
    "tiny": ("emojidet/tiny_tree", "models/grounding_dino_tiny", 30, 64),
}
IMAGES_OF_RESULTS = 100  # results of an image


@dataclass(frozen=True)
class Point:
    """What was measured; seconds and bytes."""

    x: int
    seconds: float
    bytes: int


def categories_model(recipe: str, num_categories: int) -> nn.Module:
    """CQ-DINO with random weights."""
    torch.manual_seed(0)
    cfg = without_pretrained(load_config(ROOT / f"configs/{recipe}.py", []))
    return instantiate(with_vocabulary(cfg, random_vocabulary(num_categories)).model)


def images(side: int, batch: int, boxes: int, categories: int) -> list[dict[str, Any]]:
    """Random square images with boxes."""
    given = argparse.Namespace(size=(side, side), batch=batch, boxes=boxes, categories=categories)
    return make_batch(given)


def predicting(model: nn.Module, batch: list[dict[str, Any]]) -> Call:
    """A prediction."""
    model.eval().requires_grad_(False)

    def call() -> None:
        with torch.no_grad():
            model(batch)

    return call


def vocabulary(size: str, points: Sequence[int]) -> Iterator[Call]:
    """Predictions among so many categories."""
    recipe, _, _, side = SIZES[size]
    for x in points:
        yield predicting(categories_model(recipe, x), images(side, 1, 1, x))


def image_size(size: str, points: Sequence[int]) -> Iterator[Call]:
    """Predictions in a square image of this side."""
    recipe, _, categories, _ = SIZES[size]
    model = categories_model(recipe, categories)
    for x in points:
        yield predicting(model, images(x, 1, 1, categories))


def batch(size: str, points: Sequence[int]) -> Iterator[Call]:
    """Predictions for so many images at once."""
    recipe, _, categories, side = SIZES[size]
    model = categories_model(recipe, categories)
    for x in points:
        yield predicting(model, images(side, x, 1, categories))


def boxes(size: str, points: Sequence[int]) -> Iterator[Call]:
    """Training steps on two images with so many boxes each."""
    recipe, _, categories, side = SIZES[size]
    model = categories_model(recipe, categories).train()
    for x in points:
        given = images(side, 2, x, categories)

        def call(given: list[dict[str, Any]] = given) -> None:
            model.zero_grad(set_to_none=True)
            sum(model(given).values()).backward()

        yield call


def names(size: str, points: Sequence[int]) -> Iterator[Call]:
    """Predictions by words, so many names read anew for the image."""
    from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

    from cqdino_d2.text import names_prompts

    _, by_words, _, side = SIZES[size]
    torch.manual_seed(0)
    model = instantiate(LazyConfig.load(str(ROOT / f"configs/{by_words}.py")).model)
    model.eval().requires_grad_(False)
    item = images(side, 1, 1, 1)[0]
    listed = [row["name"] for row in LVIS_CATEGORIES]
    for x in points:
        passes = names_prompts(listed[:x], model.categories.tokenizer)

        def call(passes: Any = passes) -> None:
            with torch.no_grad():
                model([item], ClassRequest(passes=model.read_prompts(passes)))

        yield call


AXES = {one.__name__: one for one in (vocabulary, image_size, batch, boxes, names)}
POINTS = {
    "vocabulary": (1000, 2000, 5000, 10_000, 20_000),
    "image_size": (128, 192, 256, 320, 448, 640),
    "batch": (1, 2, 3, 4, 6),
    "boxes": (1, 4, 16, 64, 200),
    "names": (1, 10, 30, 100, 300),
    "results": (10_000, 30_000, 100_000, 300_000, 1_000_000),
}


def timed(call: Call, repeats: int, memory: PeakMemory) -> tuple[float, int]:
    """Median processor seconds, and bytes at the peak above the start."""
    call()
    memory.reset()
    before = memory.now()
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        call()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds), max(0, memory.peak() - before)


def scored(x: int, repeats: int) -> tuple[float, int]:
    """Median processor seconds and memory of a process that scores so many results."""
    counts = synthetic.Size(max(1, x // IMAGES_OF_RESULTS), 1000, 2000 + x // 20, IMAGES_OF_RESULTS)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        synthetic.SIZES["grown"] = counts
        made = synthetic.make_set(Path(folder), "grown", 0)
        command = [sys.executable, "-W", "ignore", str(TOOL), "--protocol", "coco"]
        command += ["--annotations", str(made / "annotations.json")]
        command += ["--results", str(made / "results.json")]
        for _ in range(repeats):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f"scoring {x} results ended with {process.returncode}")
            runs.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
    return statistics.median(row[0] for row in runs), max(row[1] for row in runs)


def measure(given: argparse.Namespace) -> Iterator[Point]:
    """The points in their order, until one takes too long."""
    points = given.points or POINTS[given.axis]
    if given.axis == "results":
        found: Iterator[tuple[float, int]] = (scored(x, given.repeats) for x in points)
    else:
        memory = PeakMemory(torch.device("cpu"))
        calls = AXES[given.axis](given.model, points)
        found = (timed(call, given.repeats, memory) for call in calls)
    for x, (seconds, extra) in zip(points, found, strict=False):
        yield Point(x, seconds, extra)
        if seconds > given.most_seconds:
            break


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--axis", choices=POINTS, required=True)
    add("--points", type=int, nargs="+", metavar="N", help="by default five or six")
    add("--model", choices=SIZES, default="swin_t", help="tiny: to see that it runs")
    add("--repeats", type=int, default=3)
    add("--most-seconds", type=float, default=30, metavar="S")
    add_json_argument(parser)
    given = parser.parse_args(arguments)
    if given.points and min(given.points) < 1:
        parser.error(f"--points must be at least 1, got {min(given.points)}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line of JSON for each point."""
    given = parse_arguments(arguments)
    print(f"{processor_name()}, {torch.get_num_threads()} threads, {given.axis}")
    found = []
    for point in measure(given):
        found.append(vars(point))
        print(json.dumps(found[-1]), flush=True)
    about = {"axis": given.axis, "model": given.model, "threads": torch.get_num_threads()}
    write_figures(given.json, about | {"points": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())

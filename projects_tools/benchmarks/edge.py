"""Times the light form of Grounding DINO against Swin-T, in turns.

Example:
    python projects_tools/benchmark.py edge --rounds 5

Random weights, one image and 25 names that are read anew for every image, float32, pre- and
post-processing included. Prints medians, how many times as fast Edge at 640 x 640 is, and the
parameters and operations of every stage. Exit code 1 where Edge is less than 4 times as fast as
Swin-T at 800 x 1333 or less than 1.5 times as fast as Swin-T at 640 x 640.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import torch
from benchmarks.machine import add_json_argument, processor_name, write_figures
from benchmarks.profile_model import count_flops
from benchmarks.stage_clock import CLOCKS, StageClock
from benchmarks.text_prompts import NAMES, ROOT
from detectron2.config import LazyConfig, instantiate
from torch import nn

from cqdino_d2.text import names_prompts

Side = tuple[str, tuple[int, int]]  # a config of configs/models, and a size
EDGE: Side = ("grounding_dino_edge", (640, 640))
LEAST = {("grounding_dino", (800, 1333)): 4.0, ("grounding_dino", (640, 640)): 1.5}


def build_model(name: str) -> nn.Module:
    """A config's model with random weights."""
    torch.manual_seed(0)
    cfg = LazyConfig.load(str(ROOT / f"configs/models/{name}.py"))
    return instantiate(cfg.model).eval().requires_grad_(False)


def make_batch(model: nn.Module, size: tuple[int, int]) -> list[dict[str, Any]]:
    """One random image, asked for 25 names."""
    (prompt,) = names_prompts(NAMES, model.categories.tokenizer)
    return [{"image": torch.randint(0, 256, (3, *size), dtype=torch.uint8), "prompt": prompt}]


def timed(model: nn.Module, batch: list[dict[str, Any]], clock_name: str) -> dict[str, float]:
    """Seconds of every stage and of the whole."""
    clock = StageClock(model, torch.device("cpu"), CLOCKS[clock_name])
    begun = clock.now()
    with torch.no_grad():
        model(batch)
    total = clock.now() - begun
    clock.close()
    return {name: sum(times) for name, times in clock.seconds.items()} | {"total": total}


def measure(models: dict[str, nn.Module], rounds: int, clock: str) -> dict[Side, dict[str, float]]:
    """Medians over the rounds after a warm-up."""
    sides = [EDGE, *LEAST]
    batches = {side: make_batch(models[side[0]], side[1]) for side in sides}
    times: dict[Side, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            seconds = timed(models[side[0]], batches[side], clock)
            print(f"round {number}  {named(side)}  {seconds['total']:7.3f} s", file=sys.stderr)
            if number:
                times[side].append(seconds)
    return {
        side: {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}
        for side, rows in times.items()
    }


def named(side: Side) -> str:
    """A side for people."""
    return f"{side[0]:20s} {side[1][0]:4d} x {side[1][1]:<4d}"


def print_stages(side: Side, model: nn.Module, seconds: dict[str, float]) -> None:
    """Parameters, operations and time of every stage."""
    flops = count_flops(model, make_batch(model, side[1]))
    stages = {**dict(model.named_children()), "total": model}
    print(f"\n{named(side)}\n{'stage':18s} {'parameters':>12s} {'GFLOP':>8s} {'ms':>8s}")
    for name, time in seconds.items():
        parameters = sum(p.numel() for p in stages[name].parameters())
        print(f"{name:18s} {parameters:12,d} {flops[name] / 1e9:8.1f} {1e3 * time:8.1f}")


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds of all threads"
    )
    add_json_argument(parser)
    args = parser.parse_args(arguments)
    models = {name: build_model(name) for name, _ in [EDGE, *LEAST]}
    print(f"{processor_name()}, {torch.get_num_threads()} threads")
    medians = measure(models, args.rounds, args.clock)
    for side, seconds in medians.items():
        print_stages(side, models[side[0]], seconds)
    print()
    named_medians = {" ".join(named(side).split()): row for side, row in medians.items()}
    write_figures(args.json, {"seconds": named_medians})
    missed = 0
    for side, least in LEAST.items():
        ratio = medians[side]["total"] / medians[EDGE]["total"]
        missed += ratio < least
        print(f"Edge is {ratio:.2f} times as fast as {named(side)} (wanted: {least})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

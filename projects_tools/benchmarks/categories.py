"""The category part (queries, tree, selection) against the released code's order of operations.

Example:
    python projects_tools/benchmark.py categories --vocabulary 13204 --json categories.json
    python projects_tools/benchmark.py categories --bfloat16 --modes inference --cascade 256

Both sides have the same weights and run in turns in one process: inference on one image of 800x1333
and a training step on two. Prints medians, their ratio, how many of the plain side's K categories
are selected again, and how near inference comes to this machine's own matrix product on the
operations that are left per image. Memory is the peak above the start of the call, each measured in
a process of its own. --bfloat16 adds ours under autocast. --cascade adds the selection that at
inference takes only N categories beyond its first attention and may select others.
"""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from benchmarks.profile_model import FLOPS
from benchmarks.stage_clock import CLOCKS, PeakMemory
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cqdino_d2.categories import CategoryQueries, ImageGuidedSelection, TreeAggregation
from cqdino_d2.files import write_atomically
from cqdino_d2.layers import (
    ParameterMemo,
    accelerate_for_cpu,
    emulation_warning,
    instruction_set,
)
from cqdino_d2.layers.cpu import Dropout, Linear
from cqdino_d2.layers.recompute import RECOMPUTATIONS
from cqdino_d2.structures import ClassQueries, random_vocabulary
from tests.categories.plain_formulation import select

DIM, IMAGE_DIM, HIDDEN = 768, 512, 3072
MAP = (1024, 25, 42)  # last backbone map of an 800x1333 image
SIDES = ("plain", "ours", "bfloat16", "cascade")
NUM_SELECTED = 100


class CategoryPart:
    """Both formulations over the same weights; a cascade has its auxiliary score besides."""

    def __init__(self, categories: int, recompute: str | None, cascade: int | None = None) -> None:
        torch.manual_seed(0)
        vocabulary = random_vocabulary(categories)
        relation = TreeAggregation(vocabulary=vocabulary, dim=DIM)
        self.categories = CategoryQueries(vocabulary=vocabulary, dim=DIM, relation=relation)
        settings = dict(
            dim=DIM,
            map_channels=MAP[0],
            image_dim=IMAGE_DIM,
            output_dim=256,
            hidden_dim=HIDDEN,
            num_selected=NUM_SELECTED,
            recompute=recompute,
        )
        self.selection = ImageGuidedSelection(**settings)
        self.cascade = ImageGuidedSelection(**settings, cascade=cascade)
        self.cascade.load_state_dict(self.selection.state_dict(), strict=cascade is None)
        for name, parameter in self.selection.named_parameters():  # one memory for both
            owner, _, leaf = name.rpartition(".")
            setattr(self.cascade.get_submodule(owner), leaf, parameter)
        self.modules = (self.categories, self.selection, self.cascade)
        for module in self.modules:
            accelerate_for_cpu(module)
        self.kept = {False: ParameterMemo(), True: ParameterMemo()}  # without and with a cascade

    def queries(self, cascade: bool) -> ClassQueries:
        """Prepared class queries, kept from image to image as in a detector."""
        selection = self.cascade if cascade else self.selection
        parameters = [*self.categories.parameters(), *selection.preparing_parameters()]
        return self.kept[cascade].get(parameters, lambda: selection.prepare(self.categories()))

    def forward(self, side: str, image_map: Tensor) -> tuple[Tensor, Tensor]:
        """(B, V) logits and (B, K, 256) features."""
        if side == "plain":
            with (
                mock.patch.object(Linear, "forward", nn.Linear.forward),
                mock.patch.object(Dropout, "forward", nn.Dropout.forward),
            ):
                logits, _, features = select(self.categories, self.selection, image_map)
            return logits, features
        selection = self.cascade if side == "cascade" else self.selection
        with torch.autocast("cpu", torch.bfloat16, enabled=side == "bfloat16"):
            slots = selection(image_map, self.queries(side == "cascade"))
        return slots.scores.logits, slots.features

    def run(self, side: str, training: bool) -> None:
        """One image at inference, or a training step with two."""
        for module in self.modules:
            if module.training != training:  # train() and eval() forget what inference keeps
                module.train(training)
        image_map = torch.randn(2 if training else 1, *MAP)
        if not training:
            with torch.no_grad():
                self.forward(side, image_map)
            return
        for module in self.modules:
            module.zero_grad(set_to_none=True)
        logits, features = self.forward(side, image_map)
        (logits.sigmoid().sum() + features.sum()).backward()


def selected_again(part: CategoryPart, sides: list[str]) -> dict[str, float]:
    """Share of the plain side's K categories that the others select for the same image."""
    part.run("ours", training=False)  # leaves all parts ready for inference
    image_map = torch.randn(1, *MAP)
    with torch.no_grad():
        ids = [part.forward(side, image_map)[0].topk(NUM_SELECTED).indices for side in sides]
    return {
        side: torch.isin(ids[0], found).float().mean().item()
        for side, found in zip(sides, ids, strict=True)
    }


def operations(part: CategoryPart, side: str) -> int:
    """Floating-point operations per image that depend on it, two per multiply-add."""
    for module in part.modules:
        module.requires_grad_(False)  # the counter trips over what could have a gradient
    part.run(side, training=False)  # what needs no image is kept from now on
    with FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
        part.run(side, training=False)
    for module in part.modules:
        module.requires_grad_(True)
    return counter.get_total_flops()


def matrix_product_rate(read: Callable[[], float] = time.perf_counter) -> float:
    """Operations per second of the feed-forward block's product, by the faster of the libraries."""
    a, layer = torch.randn(1024, DIM), Linear(DIM, HIDDEN, bias=False).requires_grad_(False)
    weight = layer.weight.T.contiguous()
    times = [seconds_of(product, 10, read) for product in (lambda: a @ weight, lambda: layer(a))]
    return 2 * a.numel() * HIDDEN / min(statistics.median(seconds) for seconds in times)


def seconds_of(
    call: Callable[[], Any], repeats: int, read: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Times of single calls by the clock that is read."""
    times = []
    for _ in range(repeats):
        begun = read()
        call()
        times.append(read() - begun)
    return times


def extra_memory(args: argparse.Namespace, side: str, training: bool) -> float:
    """Peak MiB above the start of the second call, in this process."""
    part = CategoryPart(args.vocabulary, args.recompute, args.cascade)
    part.run(side, training)
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    before = memory.now()
    part.run(side, training)
    extra = memory.peak() - before
    memory.close()
    return extra / 2**20


def memory_in_a_process(args: argparse.Namespace, side: str, training: bool) -> float:
    """`extra_memory` in a fresh process, where freed memory of other calls does not hide it."""
    command = [sys.executable, "-W", "ignore", __file__, "--vocabulary", str(args.vocabulary)]
    command += ["--memory-of", side, *(["--training"] if training else [])]
    command += ["--recompute", args.recompute] if args.recompute else []
    command += ["--cascade", str(args.cascade)] if args.cascade else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure(args: argparse.Namespace, training: bool) -> dict[str, Any]:
    """Times and memory of both sides in turns."""
    part = CategoryPart(args.vocabulary, args.recompute, args.cascade)
    absent = {None if args.bfloat16 else "bfloat16", None if args.cascade else "cascade"}
    sides, read = [side for side in SIDES if side not in absent], CLOCKS[args.clock]
    times: dict[str, list[float]] = {side: [] for side in sides}
    rates = []
    for repeat in range(args.repeats + 1):
        rates.append(matrix_product_rate(read))
        for side in sides:
            if not (training or side == "plain"):
                part.run(side, training)  # another type throws away what needs no image
            [seconds] = seconds_of(lambda s=side: part.run(s, training), 1, read)
            if repeat:  # the first one warms up
                times[side].append(seconds)
    medians = {side: statistics.median(times[side]) for side in sides}
    result = {
        "mode": "training, 2 images" if training else "inference, 1 image",
        "seconds": medians,
        "ratio": {
            side: statistics.median(map(operator.truediv, times["plain"], times[side]))
            for side in sides[1:]
        },
        "extra_mib": {
            side: memory_in_a_process(args, side, training) for side in sides if not args.no_memory
        },
    }
    if not training:
        result["selected_again"] = selected_again(part, sides)
        result["flops"] = {side: operations(part, side) for side in sides[1:]}
        reached = result["flops"]["ours"] / medians["ours"]
        result["share_of_matrix_product"] = reached / statistics.median(rates)
    return result


def print_result(result: dict[str, Any], categories: int) -> None:
    """A mode's figures for people."""
    print(f"{result['mode']}, {categories:,} categories")
    for side, seconds in result["seconds"].items():
        flops = result.get("flops", {}).get(side)
        count = f"{flops / 1e9:8.1f} GFLOP" if flops else ""
        extra = result["extra_mib"].get(side)
        memory = "" if extra is None else f"{extra:8.0f} MiB extra"
        print(f"  {side:8s}{seconds:8.2f} s {memory}{count}")
    for side, ratio in result["ratio"].items():
        again = result.get("selected_again", {}).get(side)
        same = "" if again is None else f", {100 * again:.0f}% of its categories"
        print(f"  {side} is {ratio:.2f} times as fast as plain{same}")
    share = result.get("share_of_matrix_product")
    if share:
        print(f"  ours is at {100 * share:.0f}% of the matrix product's rate", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--vocabulary", type=int, default=13204)
    add("--repeats", type=int, default=5)
    add(
        "--recompute", choices=RECOMPUTATIONS[1:], help="ours trains with model.selection.recompute"
    )
    add("--modes", default="inference,training")
    add("--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds of all threads")
    add("--no-memory", action="store_true", help="times alone")
    add("--bfloat16", action="store_true", help="ours in bfloat16 as well")
    add("--cascade", type=int, metavar="M", help="also model.selection.cascade=M")
    add("--json", type=Path, metavar="OUT")
    add("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    add("--training", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(extra_memory(args, args.memory_of, args.training))
        return
    if args.bfloat16 and (warning := emulation_warning(torch.bfloat16)):
        print(f"--bfloat16: {warning}", file=sys.stderr)
    results = []
    for mode in args.modes.split(","):
        results.append(measure(args, mode == "training"))
        print_result(results[-1], args.vocabulary)
    if args.json:
        about = {
            "vocabulary": args.vocabulary,
            "cascade": args.cascade,
            "instruction_set": instruction_set(),
        }
        text = json.dumps({"arguments": about, "results": results})
        write_atomically(args.json, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()

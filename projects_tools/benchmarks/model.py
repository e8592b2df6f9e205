"""A whole detector compared with the plain formulation of every part, on this machine's CPU.

Example:
    python projects_tools/benchmark.py model --json model.json
    python projects_tools/benchmark.py model --config-file configs/emojidet/quickstart.py \\
        --categories 96 --size 128 128

The plain side is the released code's order of operations (tests/plain_model.py): grid_sample
attention, the tree once per image, stored attention weights. Both sides have the same random
weights and run in turns in one process on one image; bfloat16 (autocast over the whole model)
follows with --bfloat16. Prints medians per stage and their floor: the stage's operations at the
rate of this machine's own float32 matrix product. On a busy machine OMP_NUM_THREADS=1 and --clock
cpu give steadier figures. Fails if the predictions of the two differ: the
same categories must be selected, and at least 99% of the detections must have a partner of the same
category with a score within 0.001 and an IoU over 0.99.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from benchmarks.categories import matrix_product_rate
from benchmarks.profile_model import FLOPS, make_batch, stage_flops
from benchmarks.stage_clock import CLOCKS, StageClock
from detectron2.config import instantiate
from detectron2.structures import pairwise_iou
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import with_vocabulary, without_pretrained
from cqdino_d2.files import write_atomically
from cqdino_d2.layers import emulation_warning, instruction_set
from cqdino_d2.structures import random_vocabulary
from tests.plain_model import plain

CONFIG = Path(__file__).resolve().parents[2] / "configs/v3det/cqdino_tree_swinb22k.py"
SCORE_TOLERANCE, IOU_TOLERANCE, SHARE_TOLERANCE = 1e-3, 0.99, 0.99
Predictions = dict[str, Any]


def build_model(config: Path, categories: int) -> nn.Module:
    """A config's model with made-up categories; no part of it starts without effect."""
    cfg = without_pretrained(load_config(config, []))
    cfg = with_vocabulary(cfg, random_vocabulary(categories))
    torch.manual_seed(0)
    model = instantiate(cfg.model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def formulation(side: str, model: nn.Module) -> AbstractContextManager[None]:
    """The surroundings in which the model computes as a side does."""
    if side == "plain":
        return plain(model)
    if side == "bfloat16":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def predict(side: str, model: nn.Module, batch: list[dict[str, Any]]) -> Predictions:
    """The first image's predictions."""
    with formulation(side, model), torch.no_grad():
        return model(batch)[0]


def timed(
    side: str, model: nn.Module, batch: list[dict[str, Any]], read: Callable[[], float]
) -> tuple[dict[str, float], Predictions]:
    """Seconds of every stage and of the whole, and the predictions."""
    clock = StageClock(model, torch.device("cpu"), read)
    begun = clock.now()
    found = predict(side, model, batch)
    total = clock.now() - begun
    clock.close()
    return {name: sum(times) for name, times in clock.seconds.items()} | {"total": total}, found


def compare(expected: Predictions, found: Predictions) -> dict[str, float]:
    """How much of the expected predictions is found again.

    Returns:
        ``categories``: share of the selected categories; ``detections``: share of the detections
        within the tolerances; ``score``: largest difference of scores among these.
    """
    chosen = set(expected["selected_vocab_ids"].tolist())
    again = chosen & set(found["selected_vocab_ids"].tolist())
    one, other = expected["instances"], found["instances"]
    overlap = pairwise_iou(one.pred_boxes, other.pred_boxes)
    differs = (one.scores[:, None] - other.scores.float()).abs()
    partner = one.pred_classes[:, None] == other.pred_classes
    partner &= (overlap > IOU_TOLERANCE) & (differs < SCORE_TOLERANCE)
    least = differs.masked_fill(~partner, torch.inf).amin(dim=1)
    has_one = partner.any(dim=1)
    return {
        "categories": len(again) / len(chosen),
        "detections": has_one.float().mean().item(),
        "score": least[has_one].amax().item() if has_one.any() else float("nan"),
    }


def measure(
    model: nn.Module,
    batch: list[dict[str, Any]],
    sides: list[str],
    repeats: int,
    read: Callable[[], float],
) -> dict[str, Any]:
    """Medians of every side, operations, floors and the comparison with the plain side."""
    times: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    rates, predictions, flops = [], {}, {}
    predict("ours", model, batch)  # what needs no image is kept from now on
    # bfloat16 comes last: changing the type throws away what needs no image
    turns = [[side for side in sides if side != "bfloat16"]] * repeats
    turns += [["bfloat16"]] * (repeats if "bfloat16" in sides else 0)
    for turn in tqdm(turns, desc="rounds", disable=None):
        if turn == ["bfloat16"] and not times["bfloat16"]:
            predict("bfloat16", model, batch)
        rates.append(matrix_product_rate(read))
        for side in turn:
            counter = FlopCounterMode(display=False, custom_mapping=FLOPS)
            first = side not in flops  # counting takes some milliseconds
            with counter if first else nullcontext():
                seconds, predictions[side] = timed(side, model, batch, read)
            times[side].append(seconds)
            if first:
                flops[side] = stage_flops(model, counter)
            print(f"{side} {seconds['total']:.2f} s", file=sys.stderr, flush=True)
    rate = statistics.median(rates)
    stages = [name for name in times[sides[0]][0]]
    return {
        "operations_per_second": rate,
        "seconds": {
            side: {name: statistics.median(t.get(name, 0.0) for t in passes) for name in stages}
            for side, passes in times.items()
        },
        "flops": flops,
        "floor": {name: flops["ours"].get(name, 0) / rate for name in stages},
        "against_plain": {
            side: compare(predictions["plain"], predictions[side])
            for side in sides
            if side != "plain" and "plain" in sides
        },
    }


def print_results(result: dict[str, Any]) -> None:
    """The table for people."""
    seconds, flops, floor = result["seconds"], result["flops"]["ours"], result["floor"]
    sides = list(seconds)
    rate = result["operations_per_second"] / 1e9
    print(f"matrix product: {rate:.0f} GFLOP/s, instruction set {instruction_set()}")
    head = "".join(f"{side + ' s':>12s}" for side in sides)
    print(f"{'stage':18s}{head}{'gain':>8s}{'share':>8s}{'GFLOP':>9s}{'floor s':>9s}{'of it':>7s}")
    for name, ours in seconds["ours"].items():
        row = "".join(f"{seconds[side][name]:12.3f}" for side in sides)
        gain = f"{seconds['plain'][name] / ours:7.2f}x" if "plain" in seconds and ours else ""
        share = 100 * ours / seconds["ours"]["total"]
        of_floor = f"{100 * floor[name] / ours:6.0f}%" if ours else ""  # kept from image to image
        print(
            f"{name:18s}{row}{gain:>8s}{share:7.1f}%{flops.get(name, 0) / 1e9:9.1f}"
            f"{floor[name]:9.3f}{of_floor:>7s}"
        )
    for side, same in result["against_plain"].items():
        print(
            f"{side} against plain: {100 * same['categories']:.1f}% of the categories, "
            f"{100 * same['detections']:.1f}% of the detections, scores within {same['score']:.1e}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", type=Path, default=CONFIG, metavar="FILE")
    add("--categories", type=int, default=13204, metavar="V")
    add("--size", nargs=2, type=int, default=(800, 1216), metavar=("HEIGHT", "WIDTH"))
    add("--repeats", type=int, default=3, help="timed passes (default 3)")
    add("--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds of all threads")
    add("--bfloat16", action="store_true", help="ours in bfloat16 as well")
    add("--only-ours", action="store_true", help="without the plain side")
    add("--json", type=Path, metavar="OUT")
    args = parser.parse_args(arguments)
    if args.bfloat16 and (warning := emulation_warning(torch.bfloat16)):
        print(f"--bfloat16: {warning}", file=sys.stderr)
    model = build_model(args.config_file, args.categories).requires_grad_(False)
    batch = make_batch(tuple(args.size), 1, args.categories)
    sides = [*([] if args.only_ours else ["plain"]), "ours", *(["bfloat16"] * args.bfloat16)]
    result = measure(model, batch, sides, args.repeats, CLOCKS[args.clock])
    print_results(result)
    if args.json:
        about = {
            "config": str(args.config_file),
            "categories": args.categories,
            "size": list(args.size),
            "instruction_set": instruction_set(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        text = json.dumps({"about": about, **result}, indent=1)
        write_atomically(args.json, lambda file: file.write(text.encode()))
    same = result["against_plain"].get("ours", {"categories": 1.0, "detections": 1.0})
    if same["categories"] < 1 or same["detections"] < SHARE_TOLERANCE:
        print("the predictions are not those of the plain formulation", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

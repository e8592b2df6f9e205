"""Times training steps and predictions of a recipe's model on random images.

Example:
    python projects_tools/benchmark.py time_model \\
        --config configs/emojidet/quickstart.py --size 128 128 \\
        --batch 8 --boxes 6 --categories 153
    python projects_tools/benchmark.py time_model --config configs/v3det/cqdino_tree_swinb22k.py \\
        --size 800 1216 --categories 13204 --device cuda --autocast

Weights are random. Steps with the compiled ops and with their reference take turns, so that a busy
machine slows both. Fails if a loss or a gradient is not finite.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from unittest import mock

import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.structures import Boxes, Instances
from torch import nn

from cqdino_d2 import ops
from cqdino_d2.layers import emulation_warning
from cqdino_d2.ops import compiled
from cqdino_d2.structures import random_vocabulary


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/emojidet/quickstart.py")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), help="height and width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=6, help="boxes in an image")
    parser.add_argument("--categories", type=int, default=153)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--autocast", action="store_true", help="all of the model in bfloat16")
    parser.add_argument("--no-reference", action="store_true", help="only the compiled ops")
    return parser.parse_args(arguments)


def build_model(given: argparse.Namespace) -> nn.Module:
    """The recipe's model with a made-up vocabulary."""
    torch.manual_seed(0)
    cfg = LazyConfig.load(given.config)
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=given.categories)
    return instantiate(cfg.model).to(given.device)


def make_batch(given: argparse.Namespace) -> list[dict]:
    """Detectron2's input dicts with random images and boxes."""
    height, width = given.size
    batch = []
    for seed in range(given.batch):
        generator = torch.Generator().manual_seed(seed)
        corners = torch.rand(given.boxes, 4, generator=generator) * 0.5
        corners[:, 2:] += corners[:, :2] + 0.01
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(corners * torch.tensor([width, height, width, height]))
        instances.gt_classes = torch.randint(given.categories, (given.boxes,), generator=generator)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        batch.append(dict(image=image, height=height, width=width, instances=instances))
    return batch


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: list[dict]) -> None:
    """One step; raises `FloatingPointError` where numbers are not finite."""
    model.train()
    optimizer.zero_grad()
    loss = sum(model(batch).values())
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise FloatingPointError(f"the loss is {loss.item()}, the gradient's norm {norm.item()}")
    optimizer.step()


def predict(model: nn.Module, batch: list[dict]) -> None:
    """Predictions for the first image."""
    model.eval()
    with torch.no_grad():
        scores = model(batch[:1])[0]["instances"].scores
    if not torch.isfinite(scores).all():
        raise FloatingPointError("scores are not finite")


def median_seconds(
    function: Callable[[], None], given: argparse.Namespace, backends: list[str]
) -> dict[str, float]:
    """Of every backend, in turns after three rounds that do not count."""
    devices = dict(compiled=compiled.DEVICES, reference=frozenset())
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(given.steps + 3):
        for name in backends:
            with (
                mock.patch.object(compiled, "DEVICES", devices[name]),
                torch.autocast(given.device, torch.bfloat16, enabled=given.autocast),
            ):
                started = time.perf_counter()
                function()
                if given.device == "cuda":
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[3:]) for name, times in seconds.items()}


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for training and one for prediction."""
    given = parse_arguments(arguments)
    if ops.backend(given.device) != "compiled":
        print(f"the compiled operators are not there for {given.device}", file=sys.stderr)
        return 1
    if given.autocast and given.device == "cpu":
        if warning := emulation_warning(torch.bfloat16):
            print(f"--autocast: {warning}", file=sys.stderr)
    model, batch = build_model(given), make_batch(given)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    backends = ["compiled"] if given.no_reference else ["reference", "compiled"]
    kinds = {
        f"training, batch {given.batch}": lambda: train_step(model, optimizer, batch),
        "prediction, one image": lambda: predict(model, batch),
    }
    for title, function in kinds.items():
        median = median_seconds(function, given, backends)
        figures = ", ".join(f"{name} {1e3 * median[name]:.1f} ms" for name in backends)
        gain = "" if given.no_reference else f" ({median['reference'] / median['compiled']:.2f} x)"
        print(f"{title}: {figures}{gain}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Times training steps of detectors that read words against CQ-DINO of the same sizes, in turns.

Example:
    python projects_tools/benchmark.py text_training --steps 20

The pairs have the same backbone, widths, layers, dropout of the fusion and object queries, and get
the same made-up images. One is asked for LVIS' first names; the other selects as many categories
as the prompt has tokens, so that both have as many class slots. A step is forward, backward and
update. Prints medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from benchmarks.machine import add_json_argument, processor_name, write_figures
from benchmarks.time_model import build_model, make_batch, train_step
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
from torch import nn

from cqdino_d2.structures import ClassRequest, caption_of, words_of

ROOT = Path(__file__).resolve().parents[2]
PAIRS = {  # CQ-DINO's recipe, and that of the model that reads words
    "tiny": ("configs/emojidet/tiny_tree.py", "configs/grounding_dino/tiny.py"),
    "small": ("configs/emojidet/quickstart.py", "configs/emojidet/text_prompted.py"),
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), help="height and width")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--boxes", type=int, default=4, help="boxes in an image")
    parser.add_argument("--names", type=int, default=28, help="that an image is asked for")
    parser.add_argument("--categories", type=int, default=153, help="of CQ-DINO")
    parser.add_argument("--steps", type=int, default=20)
    add_json_argument(parser)
    return parser.parse_args(arguments)


def pair_of_models(pair: str, given: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """A training step of each model of a pair."""
    plain, by_words = PAIRS[pair]
    names = (words_of(row["name"]) for row in LVIS_CATEGORIES[: given.names])
    prompt = caption_of((name, [place]) for place, name in enumerate(names))
    settings = dict(size=given.size, batch=given.batch, boxes=given.boxes, device="cpu")

    words = argparse.Namespace(config=str(ROOT / by_words), categories=given.names, **settings)
    reader, images = build_model(words), make_batch(words)
    asked = [item | {"prompt": prompt} for item in images]
    num_slots = reader.categories(ClassRequest(prompts=(prompt,))).features.shape[1]

    plain = argparse.Namespace(config=str(ROOT / plain), categories=given.categories, **settings)
    selecting = build_model(plain)
    selecting.selection.num_selected = min(num_slots, given.categories)
    for own, other in zip(
        selecting.encoder.fusion_layers, reader.encoder.fusion_layers, strict=True
    ):
        own.dropout = other.dropout
    print(f"{pair}: {num_slots} tokens, {selecting.selection.num_selected} selected categories")
    return {
        "CQ-DINO": stepping(selecting, make_batch(plain)),
        "by words": stepping(reader, asked),
    }


def stepping(model: nn.Module, batch: list[dict]) -> Callable[[], None]:
    """A training step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)  # as the recipes have it
    return lambda: train_step(model, optimizer, batch)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each pair."""
    given = parse_arguments(arguments)
    print(f"{processor_name()}, {torch.get_num_threads()} threads")
    found = {}
    for pair in given.pairs:
        sides = pair_of_models(pair, given)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(given.steps + 3):
            for name, step in sides.items():
                started = time.perf_counter()
                step()
                if number >= 3:
                    seconds[name].append(time.perf_counter() - started)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        found[pair] = medians
        rates = ", ".join(f"{name} {given.batch / s:.1f} images/s" for name, s in medians.items())
        print(f"{pair}: {rates} ({medians['CQ-DINO'] / medians['by words']:.2f} x)", flush=True)
    write_figures(given.json, {"batch": given.batch, "seconds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Times our Grounding DINO against that of Hugging Face transformers, in turns.

Example:
    python projects_tools/benchmark.py text_prompts --rounds 3

Swin-T size with the same random weights, one image and 25 names; both read the prompt anew for
every image, except that ours keeps the text features. Prints seconds and memory beyond the model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks.machine import processor_name
from benchmarks.stage_clock import PeakMemory
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList
from torch import Tensor, nn

from cqdino_d2.checkpoint import convert_transformers_grounding_weights
from cqdino_d2.structures import ClassRequest
from cqdino_d2.text import names_prompts

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "cat dog person car bus truck bicycle chair sofa table lamp book phone clock vase kite bird "
    "horse sheep cow zebra giraffe bear elephant boat"
).split()


def build_models() -> tuple[nn.Module, nn.Module]:
    """Theirs with random weights, and ours with the same."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    torch.manual_seed(0)
    theirs = GroundingDinoForObjectDetection(GroundingDinoConfig()).eval()
    ours = instantiate(LazyConfig.load(str(ROOT / "configs/models/grounding_dino.py")).model).eval()
    weights = convert_transformers_grounding_weights(theirs.state_dict()).weights
    ours.load_state_dict(weights, strict=False)  # denoising, which is for training, is missing
    return ours, theirs


def timed(run: Callable[[], Tensor], memory: PeakMemory) -> tuple[Tensor, float, float]:
    """The result, seconds, and MiB beyond what was in use before."""
    memory.reset()
    before = memory.now()
    start = time.perf_counter()
    with torch.no_grad():
        result = run()
    seconds = time.perf_counter() - start
    return result, seconds, (memory.peak() - before) / 2**20


def main(arguments: list[str] | None = None) -> int:
    """Prints both sides' medians and how far the boxes are apart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), help="height and width")
    args = parser.parse_args(arguments)
    ours, theirs = build_models()
    prompts = names_prompts(NAMES, ours.categories.tokenizer)
    tokens = ours.categories.tokenizer(prompts)
    size = tuple(args.size)
    pixels = torch.randn(1, 3, *size)
    sides: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: ours.run(
            ImageList(pixels, [size]), None, ClassRequest(prompts=prompts)
        ).output.boxes_cxcywh_norm[-1],
        "transformers": lambda: (
            theirs(
                pixel_values=pixels,
                pixel_mask=torch.ones(1, *size, dtype=torch.int64),
                input_ids=tokens.input_ids,
                attention_mask=tokens.valid.long(),
            ).pred_boxes
        ),
    }
    print(f"{processor_name()}, {torch.get_num_threads()} threads, {tokens.valid.sum()} tokens")
    figures: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    boxes, memory = {}, PeakMemory(pixels.device)
    for number in range(args.rounds + 1):
        for side, run in sides.items():
            boxes[side], *figure = timed(run, memory)
            if number:  # the first round warms up
                figures[side].append(tuple(figure))
    memory.close()
    medians = {
        side: [statistics.median(column) for column in zip(*rows, strict=True)]
        for side, rows in figures.items()
    }
    for side, (seconds, extra) in medians.items():
        print(f"{side:13s} {seconds:6.2f} s   {extra:6.0f} MiB beyond the model")
    print(f"ratio {medians['transformers'][0] / medians['ours'][0]:.2f}")
    distance = torch.cdist(boxes["ours"][0], boxes["transformers"][0], p=torch.inf)
    far = distance.amin(dim=1)  # proposals of random weights are nearly tied: the order may differ
    print(
        f"{int((far < 1e-4).sum())} of {len(far)} boxes are within 1e-4 of one of theirs, the "
        f"median within {far.median():.0e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

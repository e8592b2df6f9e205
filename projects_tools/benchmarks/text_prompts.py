"""Times our Grounding DINO against that of Hugging Face transformers, in turns.

Example:
    python projects_tools/benchmark.py text_prompts --rounds 3
    python projects_tools/benchmark.py text_prompts --lvis --rounds 1 --no-warm-up

Swin-T size with the same random weights, one image and 25 names, or LVIS' 1,203; both read the
prompt anew for every image, but where it says otherwise. Prints seconds and memory beyond the
model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks.machine import add_json_argument, processor_name, write_figures
from benchmarks.stage_clock import PeakMemory
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList
from torch import Tensor, nn

from cqdino_d2.checkpoint import convert_transformers_grounding_weights
from cqdino_d2.structures import ClassRequest, PromptTokens
from cqdino_d2.text import names_prompts

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "cat dog person car bus truck bicycle chair sofa table lamp book phone clock vase kite bird "
    "horse sheep cow zebra giraffe bear elephant boat"
).split()
CHUNK = 40
Sides = dict[str, Callable[[], Tensor]]


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


def one_prompt_sides(ours: nn.Module, theirs: nn.Module, pixels: Tensor) -> Sides:
    """25 names in one prompt; both give the boxes of all queries."""
    size = tuple(pixels.shape[-2:])
    prompts = names_prompts(NAMES, ours.categories.tokenizer)
    request = ClassRequest(prompts=prompts)
    return {
        "ours": lambda: ours.run(ImageList(pixels, [size]), None, request).output.boxes_cxcywh_norm[
            -1
        ],
        "transformers": lambda: run_theirs(theirs, pixels, ours.categories.tokenizer(prompts)),
    }


def lvis_sides(ours: nn.Module, theirs: nn.Module, pixels: Tensor, most: int) -> Sides:
    """LVIS' first names: ours packs them by their tokens, theirs is called for 40 at a time."""
    from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

    tokenizer = ours.categories.tokenizer
    names = [category["name"] for category in LVIS_CATEGORIES][:most]
    passes = names_prompts(names, tokenizer)
    starts = range(0, len(names), CHUNK)
    chunks = [names_prompts(names[i : i + CHUNK], tokenizer)[:1] for i in starts]
    print(f"{len(names)} names: {len(passes)} passes of ours, {len(chunks)} of transformers")
    item = {"image": pixels[0]}
    with torch.no_grad():
        kept = ClassRequest(passes=ours.read_prompts(passes))

    def ask(request: ClassRequest) -> Tensor:
        return ours([item], request)[0]["instances"].pred_boxes.tensor

    return {
        "transformers": lambda: torch.cat(
            [run_theirs(theirs, pixels, tokenizer(chunk)) for chunk in chunks]
        ),
        "ours": lambda: ask(ClassRequest(passes=ours.read_prompts(passes))),
        "ours, text kept": lambda: ask(kept),
    }


def run_theirs(theirs: nn.Module, pixels: Tensor, tokens: PromptTokens) -> Tensor:
    """(1, Q, 4) boxes of one prompt."""
    return theirs(
        pixel_values=pixels,
        pixel_mask=torch.ones(1, *pixels.shape[-2:], dtype=torch.int64),
        input_ids=tokens.input_ids,
        attention_mask=tokens.valid.long(),
    ).pred_boxes


def measure(
    sides: Sides, rounds: int, warm_up: bool
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """Prints the sides' medians over the rounds, after one more to warm up.

    Returns:
        What each gave last, and its median seconds and MiB.
    """
    figures: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    boxes, memory = {}, PeakMemory(torch.device("cpu"))
    for number in range(0 if warm_up else 1, rounds + 1):
        for side, run in sides.items():
            boxes[side], *figure = timed(run, memory)
            print(f"round {number}  {side:16s} {figure[0]:7.2f} s", file=sys.stderr)
            if number:
                figures[side].append(tuple(figure))
    memory.close()
    medians = {
        side: [statistics.median(column) for column in zip(*rows, strict=True)]
        for side, rows in figures.items()
    }
    for side, (seconds, extra) in medians.items():
        ratio = medians["transformers"][0] / seconds
        print(f"{side:16s} {seconds:7.2f} s   {extra:6.0f} MiB beyond the model   {ratio:5.2f} x")
    return boxes, medians


def main(arguments: list[str] | None = None) -> int:
    """Prints both sides' medians and how far the boxes are apart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), help="height and width")
    parser.add_argument(
        "--no-warm-up", action="store_true", help="for sides of many calls, whose first warms up"
    )
    parser.add_argument("--lvis", action="store_true", help="LVIS' names on one image")
    parser.add_argument("--most", type=int, default=1203, help="of LVIS' names (all 1,203)")
    add_json_argument(parser)
    args = parser.parse_args(arguments)
    ours, theirs = build_models()
    pixels = torch.randn(1, 3, *args.size)
    print(f"{processor_name()}, {torch.get_num_threads()} threads")
    models = ours, theirs, pixels
    sides = lvis_sides(*models, args.most) if args.lvis else one_prompt_sides(*models)
    boxes, medians = measure(sides, args.rounds, not args.no_warm_up)
    if not args.lvis:
        distance = torch.cdist(boxes["ours"][0], boxes["transformers"][0], p=torch.inf)
        far = distance.amin(dim=1)  # proposals of random weights are nearly tied
        print(
            f"{int((far < 1e-4).sum())} of {len(far)} boxes are within 1e-4 of one of theirs, the "
            f"median within {far.median():.0e}"
        )
    write_figures(args.json, {"seconds_and_mib": medians})
    return 0


if __name__ == "__main__":
    sys.exit(main())

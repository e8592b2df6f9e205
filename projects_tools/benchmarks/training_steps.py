"""Times the stages of a training step against transformers' models of the same size, on the CPU.

Example:
    python projects_tools/benchmark.py training_steps --models swin_t swin_b --steps 2

Four detectors in each size, all with random weights, the same images and boxes: CQ-DINO and, for
it, transformers' two-stage Deformable DETR over the same number of classes; ours by words and
transformers' Grounding DINO, both asked for the same names. A step is forward, backward and update;
denoising is part of ours alone, as transformers has none. Every detector runs in a process of its
own. One that is not installed or fails is a dash with the reason. Prints medians and the peak of
the process's memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from benchmarks.machine import (
    add_json_argument,
    figures_of_process,
    processor_name,
    write_figures,
)
from benchmarks.profile_model import make_batch
from benchmarks.stage_clock import CLOCKS, StageClock
from benchmarks.text_prompts import NAMES, ROOT
from detectron2.config import LazyConfig, instantiate
from torch import Tensor, nn

from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import with_vocabulary, without_pretrained
from cqdino_d2.structures import caption_of, random_vocabulary

SIDES = ("cqdino", "deformable_detr", "by_words", "grounding_dino")
OURS = {  # CQ-DINO's recipe, what changes in it, and the model by words
    "tiny": ("emojidet/tiny_tree", [], "models/grounding_dino_tiny"),
    "swin_t": (
        "emojidet/cqdino_tree_swint",
        ["model.query_selection.num_queries=900"],
        "models/grounding_dino",
    ),
    "swin_b": ("v3det/cqdino_tree_swinb22k", [], "models/grounding_dino_swin_b"),
}
SWIN: dict[str, dict[str, Any]] = {
    "tiny": dict(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4),
    "swin_t": dict(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7),
    "swin_b": dict(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=12),
}
SMALL = dict(d_model=32, encoder_layers=2, decoder_layers=2, num_queries=20)
SMALL |= dict(encoder_ffn_dim=32, decoder_ffn_dim=32)
SMALL |= dict(encoder_attention_heads=4, decoder_attention_heads=4)
# stages of either library under one name; what has none is "other"
STAGES = {
    "backbone": "backbone",
    "categories": "words or categories",
    "text_backbone": "words or categories",
    "selection": "selection",
    "encoder": "encoder",
    "decoder": "decoder",
    "criterion": "criterion",
    "backward": "backward",
    "update": "update",
}
ORDER = [*dict.fromkeys(STAGES.values()), "other", "all"]
Step = Callable[[], Tensor]


def our_side(side: str, given: argparse.Namespace) -> tuple[nn.Module, nn.Module, Step]:
    """The detector, the module whose children are its stages, and a forward pass to its loss."""
    recipe, changes, by_words = OURS[given.model]
    num = given.categories if side == "cqdino" else len(NAMES)
    batch = make_batch(tuple(given.size), given.batch, num)
    if side == "cqdino":
        cfg = without_pretrained(load_config(ROOT / f"configs/{recipe}.py", changes))
        model = instantiate(with_vocabulary(cfg, random_vocabulary(num)).model)
    else:
        model = instantiate(LazyConfig.load(str(ROOT / f"configs/{by_words}.py")).model)
        prompt = caption_of((name, [place]) for place, name in enumerate(NAMES))
        batch = [item | {"prompt": prompt} for item in batch]
    return model, model, lambda: sum(model(batch).values())


def their_side(side: str, given: argparse.Namespace) -> tuple[nn.Module, nn.Module, Step]:
    """The same of transformers."""
    import transformers as hf

    swin = hf.SwinConfig(**SWIN[given.model], out_indices=[2, 3, 4])
    options: dict[str, Any] = dict(backbone_config=swin, two_stage=True, num_queries=900)
    options |= SMALL if given.model == "tiny" else {}
    words: dict[str, Any] = {}
    if side == "grounding_dino":
        words = tokens_of_names()
        if given.model == "tiny":
            small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
            options["text_config"] = dict(model_type="bert", intermediate_size=24, **small)
        model = hf.GroundingDinoForObjectDetection(hf.GroundingDinoConfig(**options))
    else:
        options["two_stage_num_proposals"] = options["num_queries"]
        options |= dict(with_box_refine=True, num_labels=given.categories)
        model = hf.DeformableDetrForObjectDetection(hf.DeformableDetrConfig(**options))
    num = len(NAMES) if words else given.categories
    batch = make_batch(tuple(given.size), given.batch, num)
    pixels = torch.stack([item["image"].float() / 255 for item in batch])
    words = {name: row.expand(given.batch, -1) for name, row in words.items()}
    mask = torch.ones(given.batch, *given.size, dtype=torch.int64)
    labels = [labels_of(item) for item in batch]
    return (
        model,
        model.model,
        lambda: model(pixel_values=pixels, pixel_mask=mask, labels=labels, **words).loss,
    )


def tokens_of_names() -> dict[str, Tensor]:
    """(1, T) ids and attention of the names as a caption, by our tokenizer of the same words."""
    cfg = LazyConfig.load(str(ROOT / "configs/models/grounding_dino.py"))
    tokenizer = instantiate(cfg.model.categories.tokenizer)
    tokens = tokenizer([caption_of((name, [i]) for i, name in enumerate(NAMES))])
    return dict(input_ids=tokens.input_ids, attention_mask=tokens.valid.long())


def labels_of(item: dict[str, Any]) -> dict[str, Tensor]:
    """An image's boxes as transformers' losses want them."""
    instances = item["instances"]
    height, width = instances.image_size
    corners = instances.gt_boxes.tensor / torch.tensor([width, height] * 2)
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    boxes = torch.cat([centres, corners[:, 2:] - corners[:, :2]], dim=1)
    return dict(class_labels=instances.gt_classes, boxes=boxes)


def measure(side: str, given: argparse.Namespace) -> dict[str, float]:
    """Median seconds of the stages of a step after one that warms up, and the peak in GiB."""
    torch.manual_seed(0)
    make = our_side if side in ("cqdino", "by_words") else their_side
    model, parts, forward = make(side, given)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    read = CLOCKS[given.clock]
    steps = []
    for number in range(given.steps + 1):
        clock = StageClock(parts, torch.device("cpu"), read)
        optimizer.zero_grad()
        begun = clock.now()
        loss = forward()
        with clock.whole("backward"):
            loss.backward()
        with clock.whole("update"):
            optimizer.step()
        total = clock.now() - begun
        clock.close()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()}")
        if number:
            steps.append(by_stage({n: sum(t) for n, t in clock.seconds.items()}, total))
    found = {stage: statistics.median(step[stage] for step in steps) for stage in steps[0]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found | {"peak GiB": peak}


def by_stage(seconds: dict[str, float], total: float) -> dict[str, float]:
    """Times under the names that both libraries share."""
    found = dict.fromkeys(STAGES.values(), 0.0)
    for name, time_of in seconds.items():
        if name in STAGES:
            found[STAGES[name]] += time_of
    return found | {"other": total - sum(found.values()), "all": total}


def in_a_process(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a fresh process; or why it gave nothing."""
    arguments = ["training_steps", "--side", side, "--models", given.model]
    for name in ("batch", "categories", "steps", "clock"):
        arguments += [f"--{name}", str(getattr(given, name))]
    print(f"{given.model} {side} ...", file=sys.stderr)
    return figures_of_process([*arguments, "--size", *map(str, given.size)])


def print_table(model: str, found: dict[str, dict[str, Any]]) -> None:
    """Markdown: stages down, detectors across."""
    print(f"\n| {model} | {' | '.join(found)} |\n|{'---|' * (len(found) + 1)}")
    for stage in [*ORDER, "peak GiB"]:
        cells = [f"{figures[stage]:.3f}" if stage in figures else "–" for figures in found.values()]
        print(f"| {stage} | {' | '.join(cells)} |")
    for side, figures in found.items():
        if "failure" in figures:
            print(f"\n{side}: {figures['failure']}")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=OURS, default=["swin_t", "swin_b"])
    add("--sides", nargs="+", choices=SIDES, default=SIDES)
    add("--size", type=int, nargs=2, default=(800, 1333), help="height and width")
    add("--batch", type=int, default=2)
    add("--categories", type=int, default=13204)
    add("--steps", type=int, default=2, help="timed ones, after one more (2)")
    add("--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds of all threads")
    add("--side", choices=SIDES, help=argparse.SUPPRESS)
    add_json_argument(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table for each size."""
    given = parse_arguments(arguments)
    if given.side:
        given.model = given.models[0]
        print(json.dumps(measure(given.side, given)))
        return 0
    print(f"{processor_name()}, {torch.get_num_threads()} threads, {given.batch} x {given.size}")
    found = {}
    for model in given.models:
        given.model = model
        found[model] = {side: in_a_process(side, given) for side in given.sides}
        print_table(model, found[model])
    write_figures(given.json, {"seconds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())

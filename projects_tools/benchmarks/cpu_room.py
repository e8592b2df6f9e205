"""What the parts that only make CPUs faster gain, each switched off in turn.

Example:
    OMP_NUM_THREADS=1 python projects_tools/benchmark.py cpu_room
    OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 \\
        MKL_ENABLE_INSTRUCTIONS=AVX2 python projects_tools/benchmark.py cpu_room

All sides run in turns in one process, in processor seconds of all its threads, so that other work
on the machine slows each of them alike. Prints a Markdown table: the median time with every part,
and how many times as long it takes without one and without all. Weights and images are random.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from benchmarks import categories, time_model
from benchmarks.machine import add_json_argument, write_figures
from timm.models.efficientvit_mit import ConvNormAct
from torch import nn

from cqdino_d2.backbone import TimmBackbone
from cqdino_d2.backbone.fused_convolution import FusedConvNormAct
from cqdino_d2.backbone.windowed_block import WindowedBlock
from cqdino_d2.layers import CrossAttention, FeedForward, accelerate_for_cpu
from cqdino_d2.layers.cpu import CpuCrossAttention, Dropout, chunks, onednn

NEVER = 1 << 62
# what stands in for each part where it is switched off
SWITCHES: dict[str, list[tuple[Any, str, Any]]] = {
    "linear": [(onednn, "LEAST_WORK", NEVER)],
    "attention": [(CpuCrossAttention, "_without_dropout", CrossAttention.look)],
    "chunks": [(chunks, "_CHUNK_ELEMENTS", NEVER)],
    "dropout": [
        (Dropout, "forward", nn.Dropout.forward),
        (CpuCrossAttention, "_with_dropout", CrossAttention.look),
    ],
    "convolutions": [(FusedConvNormAct, "forward", ConvNormAct.forward)],
}
SIDES: dict[str, tuple[str, ...]] = {
    "all": (),
    **{f"without {part}": (part,) for part in SWITCHES},
    "without all": tuple(SWITCHES),
}
TOKENS, WIDTH, HIDDEN = 22_223, 256, 2048  # of the encoder at 800 x 1333
MAP, MAP_WIDTH = (200, 304), 128  # Swin-B's first stage at 800 x 1216


def quickstart(training: bool) -> Callable[[], None]:
    """A step, or predictions, of the quickstart's model with a batch of its training."""
    given = time_model.parse_arguments(["--batch", "16", "--size", "128", "128"])
    model, batch = time_model.build_model(given), time_model.make_batch(given)
    if training:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        return lambda: time_model.train_step(model, optimizer, batch)
    return without_gradients(model, batch)


def category_part(vocabulary: int, training: bool) -> Callable[[], None]:
    """Category queries and selection with the sizes of the V3Det recipes."""
    part = categories.CategoryPart(vocabulary, recompute=None)
    return lambda: part.run("ours", training)


def without_gradients(module: nn.Module, x: Any) -> Callable[[], None]:
    """Calls the module in inference."""
    accelerate_for_cpu(module.eval())

    def call() -> None:
        with torch.no_grad():
            module(x)

    return call


def swin_block() -> Callable[[], None]:
    """A block with shifted windows."""
    block = WindowedBlock(
        MAP_WIDTH, MAP, num_heads=4, window_size=12, shift_size=6, always_partition=True
    )
    return without_gradients(block, torch.randn(1, *MAP, MAP_WIDTH))


CASES: dict[str, Callable[[argparse.Namespace], Callable[[], None]]] = {
    "training step, quickstart's model, 16 images": lambda _: quickstart(training=True),
    "inference, quickstart's model, 16 images": lambda _: quickstart(training=False),
    "inference, category part": lambda given: category_part(given.vocabulary, training=False),
    "training step, category part, 2 images": lambda given: category_part(
        given.trained, training=True
    ),
    "inference, feed-forward block of the encoder": lambda _: without_gradients(
        FeedForward(dim=WIDTH, hidden_dim=HIDDEN), torch.randn(1, TOKENS, WIDTH)
    ),
    "inference, Swin-B block of the first stage": lambda _: swin_block(),
    "inference, EfficientViT-L1 at 640 x 640": lambda _: without_gradients(
        TimmBackbone(name="efficientvit_l1", out_indices=[1, 2, 3]), torch.randn(1, 3, 640, 640)
    ),
}


@contextmanager
def switched_off(parts: tuple[str, ...]) -> Iterator[None]:
    """Inside, these parts compute as plain PyTorch does."""
    with ExitStack() as stack:
        for part in parts:
            for switch in SWITCHES[part]:
                stack.enter_context(mock.patch.object(*switch))
        yield


def medians(call: Callable[[], None], repeats: int) -> dict[str, float]:
    """Processor seconds of every side, in turns after one round that does not count."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(repeats + 1):
        for side, parts in SIDES.items():
            with switched_off(parts):
                started = time.process_time()
                call()
                seconds[side].append(time.process_time() - started)
    return {side: statistics.median(times[1:]) for side, times in seconds.items()}


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--vocabulary", type=int, default=13_204, help="of the inference")
    parser.add_argument("--trained", type=int, default=2048, help="categories of the training step")
    parser.add_argument("--cases", default="", help="only cases whose name holds this")
    add_json_argument(parser)
    given = parser.parse_args(arguments)
    cases = {name: make for name, make in CASES.items() if given.cases in name}
    if not cases:
        parser.error(f"no case's name holds {given.cases!r}, there are {', '.join(CASES)}")
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{capability}, {torch.get_num_threads()} threads, medians of {given.repeats}\n")
    print(f"| | {' | '.join(SIDES)} |\n|{'---|' * (len(SIDES) + 1)}")
    found = {}
    for name, make in cases.items():
        torch.manual_seed(0)
        median = found[name] = medians(make(given), given.repeats)
        ratios = [f"{median[side] / median['all']:.2f} x" for side in list(SIDES)[1:]]
        print(f"| {name} | {1e3 * median['all']:,.0f} ms | {' | '.join(ratios)} |", flush=True)
    write_figures(given.json, {"capability": capability, "seconds": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

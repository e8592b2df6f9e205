"""Times multi-scale deformable attention at CQ-DINO's own shapes, against what else there is.

Example:
    python projects_tools/benchmark.py ops --device cpu --json ops.json

The others, in the same run and in turns with ours: the formulation with grid_sample (what mmcv does
on a CPU), and, where installed, mmcv's and deformops' operators. Times are medians. "bound" is what
no implementation can beat: the bytes that must move (every input read once, every output written
once) at the speed of a large copy, measured in the same run. Prints a Markdown table; its head
names the instruction sets in use on the CPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks.machine import processor_name
from torch import Tensor

from cqdino_d2 import ops
from cqdino_d2.files import write_atomically

FOUR_LEVELS = ((100, 167), (50, 84), (25, 42), (13, 21))  # 800 x 1333 pixels, strides 8 to 64
FIVE_LEVELS = ((200, 334), *FOUR_LEVELS)
HEADS, CHANNELS, POINTS = 8, 32, 4
DTYPES = dict(
    float32=torch.float32, float64=torch.float64, bfloat16=torch.bfloat16, float16=torch.float16
)
Attention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = dict(wall=time.perf_counter, cpu=time.process_time)


@dataclass(frozen=True)
class Case:
    """One shape; ``queries`` = 0 stands for the encoder, where every token is a query."""

    name: str
    levels: tuple[tuple[int, int], ...]
    batch: int
    queries: int


@dataclass(frozen=True)
class Result:
    """One measurement; seconds, bytes and bytes per second."""

    case: str
    dtype: str
    direction: str
    implementation: str
    seconds: float
    extra_memory: int
    moved: int
    bound_seconds: float


CASES = [
    Case(f"{name}, batch {batch}", levels, batch, queries)
    for name, levels, queries in (
        ("encoder", FOUR_LEVELS, 0),
        ("decoder, 900 queries", FOUR_LEVELS, 900),
        ("decoder, 1100 queries", FOUR_LEVELS, 1100),
        ("encoder, 5 levels", FIVE_LEVELS, 0),
    )
    for batch in (1, 2)
]


def grid_sample_attention(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """The usual formulation in PyTorch, all of it in the values' type."""
    batch, _, heads, _ = value.shape
    queries = sampling_locations.shape[1]
    sampled = []
    for level, (height, width) in enumerate(spatial_shapes.tolist()):
        part = value[:, int(level_start_index[level]) :][:, : height * width]
        part = part.flatten(2).transpose(1, 2)
        # contiguous: on the CPU grid_sample returns garbage for strided half (torch 2.14.1)
        part = part.reshape(batch * heads, -1, height, width).contiguous()
        grid = (2 * sampling_locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(part, grid.to(value.dtype), align_corners=False))
    samples = torch.stack(sampled, dim=-2).flatten(-2)
    weights = attention_weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    return (samples * weights).sum(-1).view(batch, -1, queries).transpose(1, 2)


def other_operators() -> dict[str, Attention]:
    """mmcv's and deformops' operators, where they are installed."""
    found: dict[str, Attention] = {}
    try:
        from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

        found["mmcv"] = lambda *x: MultiScaleDeformableAttnFunction.apply(*x, 64)
    except ImportError:
        pass
    try:
        from deformops import multi_scale_deformable_attention

        found["deformops"] = multi_scale_deformable_attention
    except ImportError:
        pass
    return found


def make_inputs(case: Case, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Random values; the encoder's queries look around themselves, the decoder's anywhere."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor(case.levels)
    areas = shapes.prod(dim=1)
    tokens = int(areas.sum())
    queries = case.queries or tokens
    grid = (case.batch, queries, HEADS, len(case.levels), POINTS)
    if case.queries:
        locations = torch.rand(*grid, 2, generator=generator) * 1.1 - 0.05
    else:
        centres = [
            torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(-1)
            for h, w in case.levels
        ]
        offsets = 2 * torch.randn(*grid, 2, generator=generator) / shapes.flip(-1)[:, None]
        locations = torch.cat(centres)[:, None, None, None] + offsets
    weights = torch.randn(*grid, generator=generator).flatten(3).softmax(-1).view(grid)
    value = torch.randn(case.batch, tokens, HEADS, CHANNELS, generator=generator)
    starts = areas.cumsum(0) - areas
    locations = locations.to(torch.promote_types(dtype, torch.float32))
    inputs = [value.to(dtype), shapes, starts, locations, weights.to(dtype)]
    return [x.to(device) for x in inputs]


def bytes_to_move(inputs: list[Tensor], output: Tensor, backward: bool) -> int:
    """Every input read once and every output written once, in both passes."""
    read = sum(x.nbytes for x in inputs)
    if not backward:
        return read + output.nbytes
    gradients = sum(x.nbytes for x in inputs if x.is_floating_point())
    return read + output.nbytes + read + output.nbytes + gradients


def synchronize(device: str) -> None:
    """Waits for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def copy_bandwidth(device: str) -> float:
    """Bytes read and written per second by a copy of 256 MiB (CUDA: 2 GiB)."""
    source = torch.ones((2 << 30 if device == "cuda" else 256 << 20) // 4, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        synchronize(device)
        started = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(seconds)


class Run:
    """One implementation with its inputs."""

    def __init__(
        self, function: Attention, inputs: list[Tensor], backward: bool, clock: Clock
    ) -> None:
        self.function, self.inputs, self.backward, self.clock = function, inputs, backward, clock
        self.device = inputs[0].device.type
        self.seconds: list[float] = []
        if backward:
            self.inputs = [
                x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs
            ]

    def once(self) -> Tensor:
        """Notes the time of one call."""
        for tensor in self.inputs:
            tensor.grad = None
        synchronize(self.device)
        started = self.clock()
        output = self.function(*self.inputs)
        if self.backward:
            output.backward(output.detach())
        synchronize(self.device)
        self.seconds.append(self.clock() - started)
        return output

    def extra_memory(self) -> int:
        """Bytes at the peak of one call beyond what was there before."""
        for tensor in self.inputs:
            tensor.grad = None
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.once()
            return torch.cuda.max_memory_allocated() - before
        ctypes.CDLL(None).malloc_trim(0)  # gives back what is free, or it would not be counted
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
        before = resident("VmRSS")
        self.once()
        return resident("VmHWM") - before


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(
    case: Case,
    dtype: str,
    device: str,
    seconds: float,
    bandwidth: float,
    clock: Clock = time.perf_counter,
) -> list[Result]:
    """All implementations in turns, at least three times each after one that does not count."""
    inputs = make_inputs(case, DTYPES[dtype], device)
    functions = {"ours": ops.multi_scale_deformable_attention, "grid_sample": grid_sample_attention}
    functions |= other_operators() if device == "cuda" else {}
    results = []
    for backward in (False, True):
        runs = {
            name: Run(function, inputs, backward, clock) for name, function in functions.items()
        }
        memory = {name: run.extra_memory() for name, run in runs.items()}
        for run in runs.values():
            run.seconds.clear()
        started, rounds = time.perf_counter(), 0
        while rounds < 3 or time.perf_counter() - started < seconds:
            outputs = [run.once() for run in runs.values()]
            rounds += 1
        moved = bytes_to_move(inputs, outputs[0], backward)
        direction = "forward+backward" if backward else "forward"
        for name, run in runs.items():
            median = statistics.median(run.seconds)
            figures = (median, memory[name], moved, moved / bandwidth)
            results.append(Result(case.name, dtype, direction, name, *figures))
    return results


def machine(device: str) -> dict[str, str | int | float]:
    """What the figures were taken on."""
    about = dict(
        processor=processor_name(), threads=torch.get_num_threads(), torch=torch.__version__
    )
    about["instructions"] = torch.backends.cpu.get_cpu_capability()
    about["kernel_instructions"] = ops.cpu_capability() or "none"
    about["load"] = round(os.getloadavg()[0], 1)
    if device == "cuda":
        about["gpu"] = torch.cuda.get_device_name()
    return about


def table_head(device: str) -> str:
    """The first two lines of the table; on the CPU with the instruction sets in use."""
    ours, theirs = "", ""
    if device == "cpu":
        ours = f" ({ops.cpu_capability()})"
        theirs = f" ({torch.backends.cpu.get_cpu_capability().lower()})"
    names = ["case", "type", "pass", f"ours{ours}", "bound", "moved", "extra memory"]
    names.append(f"others{theirs}, times ours, extra")
    return f"| {' | '.join(names)} |\n{'|---' * len(names)}|"


def table_row(results: list[Result]) -> str:
    """One line of the table: ours, then the others as multiples of our time."""
    ours, *others = results
    cells = [ours.case, ours.dtype, ours.direction, f"{ours.seconds * 1e3:.2f} ms"]
    cells.append(f"{ours.bound_seconds * 1e3:.2f} ms")
    cells.append(f"{ours.moved / ours.seconds / 1e9:.1f} GB/s")
    cells.append(f"{ours.extra_memory / 2**20:.0f} MiB")
    for other in others:
        speed = f"{other.seconds * 1e3:.2f} ms = {other.seconds / ours.seconds:.1f} x"
        cells.append(f"{other.implementation} {speed}, {other.extra_memory / 2**20:.0f} MiB")
    return "| " + " | ".join(cells) + " |"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument(
        "--cases", nargs="+", default=[""], help="only cases whose names start with these"
    )
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=2.0, help="at least, per measurement")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor time of all threads, for a machine that does other work too",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs all cases; returns 1 if our own kernels are not there."""
    given = parse_arguments(arguments)
    if ops.backend(given.device) != "compiled":
        print(f"the compiled operators are not there for {given.device}", file=sys.stderr)
        return 1
    about, bandwidth = machine(given.device), copy_bandwidth(given.device)
    print(f"{about}, copies at {bandwidth / 1e9:.1f} GB/s\n")
    print(table_head(given.device), flush=True)
    results: list[Result] = []
    for case in (case for case in CASES if case.name.startswith(tuple(given.cases))):
        for dtype in given.dtypes:
            found = measure(
                case, dtype, given.device, given.seconds, bandwidth, CLOCKS[given.clock]
            )
            half = len(found) // 2
            print(table_row(found[:half]), table_row(found[half:]), sep="\n", flush=True)
            results += found
    if given.json is not None:
        figures = about | dict(bandwidth=bandwidth, results=[asdict(r) for r in results])
        text = json.dumps(figures, indent=1) + "\n"
        write_atomically(given.json, lambda file: file.write(text.encode()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

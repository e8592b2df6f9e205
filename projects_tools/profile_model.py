"""What each stage of a detector costs as the vocabulary grows.

Example:
    python projects_tools/profile_model.py --config-file configs/v3det/cqdino_tree_swinb22k.py \
        --vocabulary 1000,13204,50000,130000 --size 800 1216 --device cpu --output output/profile

For each vocabulary size (made-up categories in a tree) and each of inference and training it prints
per stage the parameters, the floating-point operations (two per multiplication and addition of
matrix products, convolutions and attention;
sampling in deformable attention is not counted), the time and the peak of extra memory, and writes
profile.json and profile.png. Times are medians; the first pass warms up and is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from detectron2.config import LazyCall, instantiate
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm import tqdm

from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import disable_pretrained, share_vocabulary
from cqdino_d2.structures import random_vocabulary, write_atomically

PAGE = 4096
SAMPLE_SECONDS = 0.002


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


# operators of the CPU that the counter does not know yet; it is given the shapes
FLOPS = {
    torch.ops.mkldnn._linear_pointwise: _linear_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


class PeakMemory:
    """Peak of the memory in use, in bytes: allocated on CUDA, else resident in the process."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._peak, self._stop = 0, threading.Event()
        if not self._cuda:
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()

    def now(self) -> int:
        """Bytes in use."""
        if self._cuda:
            return torch.cuda.memory_allocated()
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self.now())

    def reset(self) -> None:
        """Starts a new measurement."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._peak = self.now()

    def peak(self) -> int:
        """The peak since `reset`."""
        if self._cuda:
            return torch.cuda.max_memory_allocated()
        return max(self._peak, self.now())

    def close(self) -> None:
        """Ends the sampling."""
        self._stop.set()


class StageClock:
    """Time and extra memory of the direct children of a model in its forward pass.

    Args:
        model: hooks are put on its children.
        device: where it runs.
        read: gives the seconds; `time.process_time` where others keep the processor busy.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        read: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read = read
        self.seconds: dict[str, list[float]] = {}
        self.extra_bytes: dict[str, int] = {}
        self._device, self._memory = device, PeakMemory(device)
        self._begun: dict[str, tuple[float, int]] = {}
        self._handles = []
        for name, child in model.named_children():
            self._handles.append(child.register_forward_pre_hook(lambda *_, n=name: self._start(n)))
            self._handles.append(child.register_forward_hook(lambda *_, n=name: self._end(n)))

    def now(self) -> float:
        """Seconds, when all that was begun is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return self._read()

    def _start(self, name: str) -> None:
        self._memory.reset()
        self._begun[name] = (self.now(), self._memory.now())

    def _end(self, name: str) -> None:
        begun, before = self._begun[name]
        self.seconds.setdefault(name, []).append(self.now() - begun)
        extra = self._memory.peak() - before
        self.extra_bytes[name] = max(self.extra_bytes.get(name, 0), extra)

    @contextmanager
    def whole(self, name: str) -> Iterator[None]:
        """Measures a block as a stage of its own."""
        self._start(name)
        yield
        self._end(name)

    def close(self) -> None:
        """Takes the hooks off."""
        self._memory.close()
        for handle in self._handles:
            handle.remove()


def make_batch(size: tuple[int, int], images: int, categories: int) -> list[dict[str, Any]]:
    """Random pictures with ten boxes each."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(images):
        corner = torch.rand(10, 2, generator=generator) * 0.6
        boxes = torch.cat([corner, corner + 0.3], dim=1) * torch.tensor([size[1], size[0]] * 2)
        instances = Instances(size, gt_boxes=Boxes(boxes))
        instances.gt_classes = torch.randint(0, categories, (10,), generator=generator)
        image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        batch.append({"image": image, "instances": instances})
    return batch


def step(model: nn.Module, batch: list[dict[str, Any]], clock: StageClock | None = None) -> None:
    """One pass: inference, or in training forward and backward."""
    if not model.training:
        with torch.no_grad():
            model(batch)
        return
    model.zero_grad(set_to_none=True)
    total = sum(model(batch).values())
    if clock is None:
        total.backward()
    else:
        with clock.whole("backward"):
            total.backward()


def count_flops(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, int]:
    """Operations per stage, in training with those of its backward pass."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    counter = FlopCounterMode(display=False, depth=None, custom_mapping=FLOPS)
    # at inference the counter trips over parameters that could have a gradient
    model.requires_grad_(model.training)
    with counter:
        step(model, batch)
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_()
    return stage_flops(model, counter)


def stage_flops(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """What was counted, per direct child of the model and in total."""
    root = type(model).__name__
    counts = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    stages = {name: counts.get(f"{root}.{name}", 0) for name, _ in model.named_children()}
    return stages | {"total": counts.get("Global", 0)}


def profile(
    model: nn.Module, batch: list[dict[str, Any]], device: torch.device, repeats: int
) -> list[dict[str, Any]]:
    """One row per stage."""
    step(model, batch)  # warms up; what needs no image is kept from now on
    flops = count_flops(model, batch)
    clock = StageClock(model, device)
    for _ in range(repeats):
        begun = clock.now()
        step(model, batch, clock)
        clock.seconds.setdefault("total", []).append(clock.now() - begun)
    clock.close()
    parameters = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    parameters["total"] = sum(p.numel() for p in model.parameters())
    return [
        {
            "stage": name,
            "parameters": parameters.get(name, 0),
            "flops": flops.get(name, 0),
            "seconds": statistics.median(seconds),
            "extra_bytes": clock.extra_bytes.get(name),
        }
        for name, seconds in clock.seconds.items()
    ]


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """The rows for people."""
    print(f"\n{title}")
    print(f"{'stage':18s} {'parameters':>12s} {'GFLOP':>10s} {'ms':>10s} {'extra MiB':>10s}")
    for row in rows:
        extra = "" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 2**20:.0f}"
        print(
            f"{row['stage']:18s} {row['parameters']:12,d} {row['flops'] / 1e9:10.1f} "
            f"{row['seconds'] * 1e3:10.1f} {extra:>10s}"
        )


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Stacked times of the stages over the size of the vocabulary, per mode."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    modes = list(dict.fromkeys(result["mode"] for result in results))
    figure, axes = pyplot.subplots(1, len(modes), figsize=(6 * len(modes), 4.5), squeeze=False)
    for axis, mode in zip(axes[0], modes, strict=True):
        chosen = [result for result in results if result["mode"] == mode]
        labels = [f"{result['vocabulary']:,}" for result in chosen]
        bottom = [0.0] * len(chosen)
        stages = dict.fromkeys(row["stage"] for r in chosen for row in r["stages"])
        for stage in [name for name in stages if name != "total"]:
            heights = [
                sum(row["seconds"] for row in r["stages"] if row["stage"] == stage) for r in chosen
            ]
            axis.bar(labels, heights, bottom=bottom, label=stage)
            bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
        axis.set(title=mode, xlabel="categories", ylabel="seconds")
        axis.legend(fontsize=8)
    figure.tight_layout()
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))
    pyplot.close(figure)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, type=Path, metavar="FILE")
    add("--vocabulary", default="1000,13204", metavar="N,N,...", help="numbers of categories")
    add("--size", nargs=2, type=int, default=(800, 1216), metavar=("HEIGHT", "WIDTH"))
    add("--batch", type=int, default=1, help="images per pass (default 1)")
    add("--modes", default="inference,training", help="which (default inference,training)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--repeats", type=int, default=3, help="timed passes (default 3)")
    add("--output", type=Path, default=Path("output/profile"), help="folder for json and png")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Profiles every size and mode."""
    args = parse_arguments(arguments)
    device = torch.device(args.device)
    results = []
    sizes = [int(size) for size in args.vocabulary.split(",")]
    for categories in tqdm(sizes, desc="vocabularies", disable=None):
        cfg = load_config(args.config_file, args.overrides)
        cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=categories)
        disable_pretrained(cfg.model)
        share_vocabulary(cfg)
        torch.manual_seed(0)
        model = instantiate(cfg.model).to(device)
        batch = make_batch(tuple(args.size), args.batch, categories)
        for mode in args.modes.split(","):
            rows = profile(model.train(mode == "training"), batch, device, args.repeats)
            print_table(f"{categories:,} categories, {mode}, {args.batch} x {args.size}", rows)
            results.append({"vocabulary": categories, "mode": mode, "stages": rows})
    args.output.mkdir(parents=True, exist_ok=True)
    about = {
        "config": str(args.config_file),
        "size": list(args.size),
        "batch": args.batch,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    text = json.dumps({"about": about, "results": results}, indent=1)
    write_atomically(args.output / "profile.json", lambda file: file.write(text.encode()))
    plot(results, args.output / "profile.png")
    print(f"\nwrote {args.output}/profile.json and profile.png")


if __name__ == "__main__":
    main()

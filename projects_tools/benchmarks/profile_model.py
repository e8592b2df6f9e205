"""What each stage of a detector costs as the vocabulary grows.

Example:
    python projects_tools/benchmark.py profile_model --vocabulary 1000,13204,50000,130000 \
        --config-file configs/v3det/cqdino_tree_swinb22k.py --size 800 1216 --output output/profile

For each vocabulary size (made-up categories in a tree) and each mode (inference, training, and
compact: inference in little memory, see `CategoryPredictor.compact`) it prints per stage the
parameters, the memory held from image to image (parameters included), the floating-point operations
(two per multiplication and addition of matrix products, convolutions and attention;
sampling in deformable attention is not counted), the time and the peak of extra memory, and writes
profile.json and profile.png. Times are medians; the first pass warms up and is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.stage_clock import CLOCKS, StageClock
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm import tqdm

from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import with_vocabulary, without_pretrained
from cqdino_d2.files import write_atomically
from cqdino_d2.structures import random_vocabulary


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _linear_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def _convolution_flops(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


# operators of the CPU that the counter does not know yet; it is given the shapes
FLOPS = {
    torch.ops.mkldnn._linear_pointwise: _linear_flops,
    torch.ops.mkldnn._convolution_pointwise: _convolution_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def make_batch(size: tuple[int, int], images: int, categories: int) -> list[dict[str, Any]]:
    """Random images with ten boxes each."""
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


def held_bytes(module: nn.Module) -> int:
    """Memory of parameters and buffers."""
    values = [*module.parameters(), *module.buffers()]
    return sum(value.numel() * value.element_size() for value in values)


def profile(
    model: nn.Module,
    batch: list[dict[str, Any]],
    device: torch.device,
    repeats: int,
    read: Callable[[], float],
) -> list[dict[str, Any]]:
    """One row per stage."""
    step(model, batch)  # warms up; what needs no image is kept from now on
    flops = count_flops(model, batch)
    clock = StageClock(model, device, read)
    for _ in range(repeats):
        begun = clock.now()
        step(model, batch, clock)
        clock.seconds.setdefault("total", []).append(clock.now() - begun)
    clock.close()
    clock.seconds.setdefault("categories", [0.0])  # where what they gave is kept
    memory = StageClock(model, device, memory=True)
    step(model, batch, memory)
    memory.close()
    parameters = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    parameters["total"] = sum(p.numel() for p in model.parameters())
    held = {name: held_bytes(child) for name, child in model.named_children()}
    held["categories"] += model.kept_bytes  # the queries, from image to image
    held["total"] = held_bytes(model) + model.kept_bytes
    return [
        {
            "stage": name,
            "parameters": parameters.get(name, 0),
            "flops": flops.get(name, 0),
            "seconds": statistics.median(seconds),
            "held_bytes": held.get(name, 0),
            "extra_bytes": memory.extra_bytes.get(name),
        }
        for name, seconds in clock.seconds.items()
    ]


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """The rows for people."""
    print(f"\n{title}")
    print(
        f"{'stage':18s} {'parameters':>12s} {'GFLOP':>10s} {'ms':>10s} {'held MiB':>10s} "
        f"{'extra MiB':>10s}"
    )
    for row in rows:
        extra = "" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 2**20:.0f}"
        print(
            f"{row['stage']:18s} {row['parameters']:12,d} {row['flops'] / 1e9:10.1f} "
            f"{row['seconds'] * 1e3:10.1f} {row['held_bytes'] / 2**20:10.0f} {extra:>10s}"
        )


def print_cost_of_a_category(results: list[dict[str, Any]], mode: str) -> None:
    """What a further category takes, from the smallest and the largest vocabulary."""
    chosen = sorted((r for r in results if r["mode"] == mode), key=lambda r: r["vocabulary"])
    if len(chosen) < 2:
        return
    added = chosen[-1]["vocabulary"] - chosen[0]["vocabulary"]
    few, many = ({row["stage"]: row for row in r["stages"]} for r in (chosen[0], chosen[-1]))

    def per_category(key: str, stages: list[str]) -> float:
        return max((many[s][key] or 0) - (few[s][key] or 0) for s in stages) / added

    stages = [name for name in many if name != "total"]
    print(
        f"\na further category, {mode}: {per_category('parameters', ['total']):.0f} parameters, "
        f"{per_category('held_bytes', ['total']):.0f} bytes held, "
        f"{per_category('extra_bytes', stages):.0f} bytes at the peak of the dearest stage, "
        f"{1e6 * per_category('seconds', ['total']):.1f} us"
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
    add("--modes", default="inference,training", help="also compact (default inference,training)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--repeats", type=int, default=3, help="timed passes (default 3)")
    add("--clock", choices=CLOCKS, default="wall", help="cpu: processor seconds of all threads")
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
        cfg = without_pretrained(load_config(args.config_file, args.overrides))
        cfg = with_vocabulary(cfg, random_vocabulary(categories))
        torch.manual_seed(0)
        whole = instantiate(cfg.model).to(device)
        batch = make_batch(tuple(args.size), args.batch, categories)
        for mode in args.modes.split(","):
            read = CLOCKS[args.clock]
            model = whole.compact() if mode == "compact" else whole
            rows = profile(model.train(mode == "training"), batch, device, args.repeats, read)
            print_table(f"{categories:,} categories, {mode}, {args.batch} x {args.size}", rows)
            results.append({"vocabulary": categories, "mode": mode, "stages": rows})
    for mode in args.modes.split(","):
        print_cost_of_a_category(results, mode)
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

"""Latency of one image in eager mode, compiled, in onnxruntime, in OpenVINO, and in 8 bits.

Examples:
    python projects_tools/benchmark.py export --config-file configs/grounding_dino/swint_ogc.py \\
        --size 800 1333 --rounds 5
    python projects_tools/benchmark.py export --config-file output/text/config.yaml \\
        --weights output/text/model_inference.pth --size 128 128 --evaluate output/datasets/named

All sides run in turns in one process; printed are medians as a Markdown table, and how far the
scores of the first image are from those of eager mode. "int8" is the ONNX file with the weights of
its products in 8 bits, their inputs quantised as they come (onnxruntime's dynamic quantisation);
convolutions and what samples the image stay in float32. Without --weights they are random.
--evaluate scores the config's test set with eager mode, onnxruntime and int8.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.machine import add_json_argument, processor_name, write_figures
from detectron2.structures import Boxes, Instances
from torch import nn

from cqdino_d2.data import register_all
from cqdino_d2.detector import GroundingDINO
from cqdino_d2.engine import Evaluation, load_config
from cqdino_d2.export import check, exportable
from cqdino_d2.export.detector_file import load_model
from cqdino_d2.export.exportable import least_names
from cqdino_d2.export.onnx import to_onnx
from cqdino_d2.export.runtimes import Run, onnxruntime_runner, openvino_runner
from cqdino_d2.export.text_side import arrays_of
from cqdino_d2.export.tracing import choose_sizes, trace
from cqdino_d2.structures import TextPrompt, one_line

Outputs = tuple[np.ndarray, ...]
SIDES = ("eager", "compile", "onnxruntime", "openvino", "int8")
NAMES = (
    "cat dog person car bus truck bicycle chair sofa table lamp book phone clock vase kite bird "
    "horse sheep cow zebra giraffe bear elephant boat"
).split()


def quantised(content: bytes) -> bytes:
    """An ONNX file with the weights of its matrix products in 8 bits, a scale for each column."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        given, folded, made = (Path(folder, f"{name}.onnx") for name in ("in", "folded", "out"))
        given.write_bytes(content)
        quant_pre_process(given, folded, skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            folded,
            made,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=_constant_attention(folded),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )
        return made.read_bytes()


def _constant_attention(path: Path) -> list[str]:
    """Products with constants of several heads, which have no scale for each column."""
    import onnx

    graph = onnx.load(path).graph
    stacked = {one.name for one in graph.initializer if len(one.dims) != 2}
    return [
        node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in stacked
    ]


@dataclass(frozen=True)
class Exported:
    """What is compared.

    Attributes:
        detector: in PyTorch.
        sample: an image and names.
        content: the ONNX file.
    """

    detector: nn.Module
    sample: check.Sample
    content: bytes


def export(given: argparse.Namespace) -> Exported:
    """Exports the model in memory."""
    model, cfg = load_model(given.config_file, given.weights, given.overrides, several_names=True)
    detector = exportable(model)
    sample = check.make_sample(model, tuple(given.size), 0, NAMES)
    sizes = choose_sizes(detector, cfg, height=given.size[0], width=given.size[1])
    program = trace(detector, sample, sizes, static=given.static, reference_ops=True)
    return Exported(detector, sample, to_onnx(program, list(sample.inputs)))


def build_sides(exported: Exported, names: list[str]) -> dict[str, Callable[[], Outputs]]:
    """What is timed, by name; sides that cannot be made say why and are left out."""
    detector, sample, content = exported.detector, exported.sample, exported.content
    tensors, threads = tuple(sample.tensors().values()), torch.get_num_threads()
    compiled = torch.compile(detector, dynamic=False)

    def in_torch(module: Callable[..., tuple[torch.Tensor, ...]]) -> Outputs:
        with torch.no_grad():
            return tuple(x.numpy() for x in module(*tensors))

    makers: dict[str, Callable[[], Run]] = {
        "eager": lambda: lambda _: in_torch(detector),
        "compile": lambda: lambda _: in_torch(compiled),
        "onnxruntime": lambda: onnxruntime_runner(content, threads),
        "openvino": lambda: openvino_runner(content, threads),
        "int8": lambda: onnxruntime_runner(quantised(content), threads),
    }
    sides: dict[str, Callable[[], Outputs]] = {}
    for name in names:
        try:
            run = makers[name]()
            run(sample.inputs)  # warms up, and a compiler compiles
        except (RuntimeError, ValueError, OSError) as error:
            print(f"{name}: {str(error).strip().splitlines()[0]}", file=sys.stderr)
            continue
        sides[name] = lambda run=run: run(sample.inputs)
    return sides


def measure(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each side, in turns."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    return {side: statistics.median(times) for side, times in seconds.items()}


class RunAsModel(nn.Module):
    """An exported file in place of the model that it was made from, for an evaluation.

    Args:
        model: makes the text side of the images' prompts, where it reads words.
        run: the file in a runtime.
    """

    def __init__(self, model: nn.Module, run: Run) -> None:
        super().__init__()
        self.model, self.run = model, run
        self.words: dict[TextPrompt, dict[str, np.ndarray]] = {}

    def words_of(self, item: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The text side of an image's prompt, kept from image to image."""
        if not isinstance(self.model, GroundingDINO):
            return {}
        prompt = item["prompt"]
        if prompt not in self.words:
            (queries,) = self.model.read_prompts([prompt])
            self.words[prompt] = arrays_of(queries, least_names(self.model))
        return self.words[prompt]

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detectron2's dicts -> "instances" in the size that is wanted."""
        results = []
        for item in batched_inputs:
            image = item["image"].float().numpy()
            found = self.run({"image": image} | self.words_of(item))
            boxes, scores, ids = map(torch.from_numpy, found)
            size = item.get("height", image.shape[1]), item.get("width", image.shape[2])
            instances = Instances(size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=ids)
            instances = instances[ids >= 0]
            instances.pred_boxes.scale(size[1] / image.shape[2], size[0] / image.shape[1])
            results.append({"instances": instances})
        return results


def evaluate(given: argparse.Namespace, content: bytes) -> dict[str, dict[str, float]]:
    """The figures of eager mode, onnxruntime and int8 on the config's test set."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            f"train.datasets_root={given.evaluate}",
            f"train.init_checkpoint={given.weights}",
            f"train.output_dir={folder}",
        ]
        register_all(given.evaluate)
        cfg = load_config(given.config_file, [*given.overrides, *settings])
        evaluation = Evaluation.prepare(cfg)
        model = evaluation.model.eval()
        model.autocast_dtype = model.inference_dtype = None
        files = {"onnxruntime": content, "int8": quantised(content)}
        models = {"eager": model} | {
            name: RunAsModel(model, onnxruntime_runner(file)) for name, file in files.items()
        }
        return {
            name: dataclasses.replace(evaluation, model=one).run()["bbox"]
            for name, one in models.items()
        }


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--weights", default="", metavar="FILE")
    add("--size", type=int, nargs=2, default=(800, 1333), help="height and width")
    add("--static", action="store_true", help="trace for this size alone")
    add("--rounds", type=int, default=5)
    add("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    add("--evaluate", metavar="DIR", help="root of the datasets: score the test set, too")
    add("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="override the config")
    add_json_argument(parser)
    given = parser.parse_args(arguments)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # warns of what it leaves as it is
    try:
        exported = export(given)
        sides = build_sides(exported, given.sides)
        medians = measure(sides, given.rounds)
        figures = evaluate(given, exported.content) if given.evaluate else {}
    except (ValueError, OSError) as error:
        print(f"export: {one_line(str(error))}", file=sys.stderr)
        return 2
    print(
        f"{processor_name()}, {torch.get_num_threads()} threads, {given.size[0]} x "
        f"{given.size[1]}, medians of {given.rounds}\n"
    )
    print("| | ms | times as fast as eager | scores differ by | AP | AP50 |")
    print("|---|---|---|---|---|---|")
    write_figures(given.json, {"seconds": medians, "scored": figures})
    reference = sides["eager"]()[1] if "eager" in sides else None
    for side, run in sides.items():
        gain = f"{medians['eager'] / medians[side]:.2f}" if "eager" in medians else ""
        far = "" if reference is None else f"{np.abs(run()[1] - reference).max():.0e}"
        scored = figures.get(side, {})
        cells = [f"{scored[name]:.2f}" if scored else "" for name in ("AP", "AP50")]
        print(f"| {side} | {1e3 * medians[side]:,.0f} | {gain} | {far} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

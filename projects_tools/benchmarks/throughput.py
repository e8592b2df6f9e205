"""Images per second over a folder of photographs, against detectors of other libraries.

Example:
    python projects_tools/benchmark.py throughput --images 32 --batch 4

The photographs are made up and written as JPEGs first. Each side reads them, resizes them as its
library does, runs the model in batches and writes the picture with the ten best boxes. Reading and
drawing happen in threads while the model works ("in turns" is our first side without that).
Weights are random, so that speed alone can be compared; a side works in the size of its own
recipe. Every side is a process of its own. One that is not installed is a dash with the line that
installs it.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.machine import (
    add_json_argument,
    figures_of_process,
    processor_name,
    write_figures,
)
from benchmarks.text_prompts import NAMES, ROOT
from detectron2.structures import ImageList
from PIL import Image
from torch import nn

from cqdino_d2.files.images import read_image
from cqdino_d2.prediction.loading import load_predictor
from cqdino_d2.structures import random_vocabulary
from cqdino_d2.visualization.drawing import LabelledBox, draw_boxes

Boxes = Sequence[Sequence[float]]
DRAWN, AHEAD = 10, 2  # boxes of an image; batches that are read before the model wants them


@dataclass(frozen=True)
class Detector:
    """One side.

    Attributes:
        modules: whose parameters are counted.
        size: of the images in the model, for people.
        prepare: an image (H, W, 3) RGB as the model takes it.
        find: the best boxes (x0, y0, x1, y1) of each of several prepared images, in pixels.
    """

    modules: nn.Module
    size: str
    prepare: Callable[[np.ndarray], Any]
    find: Callable[[list[Any]], list[Boxes]]


def our_detector(config: str, names: Sequence[str], given: argparse.Namespace) -> Detector:
    """A predictor of a recipe with random weights; made-up categories where it reads no words."""
    side = [
        f"dataloader.test.mapper.augmentations.0.{key}" for key in ("short_edge_length", "max_size")
    ]
    overrides = [f"{key}={given.size}" for key in side] if given.size else []
    with tempfile.TemporaryDirectory() as folder:
        weights = "" if names else made_up_weights(ROOT / config, given.categories, Path(folder))
        options = {"device": "cpu", "overrides": overrides}
        predictor = load_predictor(str(ROOT / config), weights, **options)
    predictor = predictor.ask(names) if names else predictor

    def find(inputs: list[Any]) -> list[Boxes]:
        results = predictor.run(inputs, predictor.request)
        return [result["instances"].pred_boxes.tensor[:DRAWN].tolist() for result in results]

    size = f"{given.size} at most" if given.size else "800 to 1333"
    return Detector(predictor.model, size, lambda x: predictor.inputs([x[:, :, ::-1]])[0], find)


def made_up_weights(config: Path, categories: int, folder: Path) -> str:
    """A checkpoint with random weights, made-up categories beside it."""
    from detectron2.config import instantiate

    from cqdino_d2.engine import load_config
    from cqdino_d2.engine.config import with_vocabulary, without_pretrained

    vocabulary = random_vocabulary(categories)
    cfg = with_vocabulary(without_pretrained(load_config(config, [])), vocabulary)
    vocabulary.save(folder / "vocabulary.json")
    torch.save({"model": instantiate(cfg.model).state_dict()}, folder / "model.pth")
    return str(folder / "model.pth")


def transformers_detector(by_words: bool, given: argparse.Namespace) -> Detector:
    """Their Grounding DINO, or their two-stage Deformable DETR with the same backbone."""
    import transformers as hf
    from benchmarks.training_steps import SMALL, SWIN, tokens_of_names

    options: dict[str, Any] = dict(
        backbone_config=hf.SwinConfig(**SWIN[given.swin], out_indices=[2, 3, 4])
    )
    options |= dict(two_stage=True, num_queries=900, num_labels=given.categories)
    options |= SMALL if given.swin == "tiny" else {}
    words: dict[str, torch.Tensor] = {}
    if by_words:
        words = tokens_of_names()
        model = hf.GroundingDinoForObjectDetection(hf.GroundingDinoConfig(**options))
        processor = hf.GroundingDinoImageProcessor()
    else:
        proposals = options["num_queries"]
        options |= dict(with_box_refine=True, two_stage_num_proposals=proposals)
        model = hf.DeformableDetrForObjectDetection(hf.DeformableDetrConfig(**options))
        processor = hf.DeformableDetrImageProcessor()
    if given.size:
        processor.size = {"shortest_edge": given.size, "longest_edge": given.size}
    model.eval()

    def prepare(image: np.ndarray) -> tuple[torch.Tensor, tuple[int, ...]]:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels, image.shape[:2]

    def find(inputs: list[Any]) -> list[Boxes]:
        images = ImageList.from_tensors([pixels for pixels, _ in inputs])
        mask = torch.zeros(len(inputs), *images.tensor.shape[-2:], dtype=torch.int64)
        for one, (height, width) in zip(mask, images.image_sizes, strict=True):
            one[:height, :width] = 1
        with torch.no_grad():
            told = {name: row.expand(len(inputs), -1) for name, row in words.items()}
            output = model(pixel_values=images.tensor, pixel_mask=mask, **told)
        return [
            best_boxes(logits, boxes, size)
            for logits, boxes, (_, size) in zip(
                output.logits, output.pred_boxes, inputs, strict=True
            )
        ]

    size = f"{given.size} at most" if given.size else "800 to 1333"
    return Detector(model, size, prepare, find)


def best_boxes(logits: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> Boxes:
    """Corners in pixels of the best boxes (Q, 4) cxcywh in 0..1 with logits (Q, classes)."""
    best = logits.amax(dim=1).topk(min(DRAWN, len(logits))).indices
    centre, extent = boxes[best].split(2, dim=1)
    scale = torch.tensor([size[1], size[0]] * 2)
    return (torch.cat([centre - extent / 2, centre + extent / 2], dim=1) * scale).tolist()


def rfdetr_detector(given: argparse.Namespace) -> Detector:
    """RF-DETR base."""
    from rfdetr import RFDETRBase

    detector = RFDETRBase(pretrain_weights=None)

    def find(inputs: list[Any]) -> list[Boxes]:
        return [one.xyxy[:DRAWN].tolist() for one in detector.predict(inputs, threshold=0.0)]

    return Detector(detector.model.model, "560 x 560", Image.fromarray, find)


def ultralytics_detector(given: argparse.Namespace) -> Detector:
    """YOLOv8 in its largest form."""
    from ultralytics import YOLO

    detector = YOLO("yolov8x.yaml")

    def find(inputs: list[Any]) -> list[Boxes]:
        found = detector.predict(inputs, conf=0.001, imgsz=640, verbose=False, device="cpu")
        return [one.boxes.xyxy[:DRAWN].tolist() for one in found]

    return Detector(detector.model, "640", lambda image: image[:, :, ::-1], find)


CATEGORIES = {
    "swin_t": "configs/emojidet/cqdino_tree_swint.py",
    "tiny": "configs/emojidet/tiny_tree.py",
}
WORDS = {"swin_t": "configs/grounding_dino/swint_ogc.py", "tiny": "configs/grounding_dino/tiny.py"}
SIDES: dict[str, tuple[str, Callable[[argparse.Namespace], Detector]]] = {
    "CategoryPredictor": ("", lambda given: our_detector(CATEGORIES[given.swin], (), given)),
    "CategoryPredictor, in turns": (
        "",
        lambda given: our_detector(CATEGORIES[given.swin], (), given),
    ),
    "TextPredictor": ("", lambda given: our_detector(WORDS[given.swin], NAMES, given)),
    "transformers Deformable DETR": (
        "transformers",
        lambda given: transformers_detector(False, given),
    ),
    "transformers Grounding DINO": (
        "transformers",
        lambda given: transformers_detector(True, given),
    ),
    "rfdetr base": ("rfdetr", rfdetr_detector),
    "ultralytics YOLOv8x": ("ultralytics", ultralytics_detector),
}


def make_photographs(folder: Path, count: int) -> None:
    """JPEGs of 640 x 480 and 480 x 640 with structure in all sizes, from a seed."""
    generator = np.random.default_rng(0)
    for number in range(count):
        size = (640, 480) if number % 4 else (480, 640)
        layers = [
            Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            for cells in (4, 16, 64)
        ]
        arrays = [
            np.asarray(layer.resize(size, Image.Resampling.BICUBIC), float) for layer in layers
        ]
        picture = Image.fromarray(np.mean(arrays, axis=0).astype(np.uint8))
        picture.save(folder / f"{number:04d}.jpg", quality=90)


def ahead(calls: Iterable[Callable[[], Any]], pool: ThreadPoolExecutor, most: int) -> Iterator[Any]:
    """The results of calls in their order, at most so many of them begun before they are wanted."""
    begun: collections.deque[Future] = collections.deque()
    for call in calls:
        begun.append(pool.submit(call))
        if len(begun) > most:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def run(detector: Detector, paths: Sequence[Path], output: Path, batch: int, overlap: bool) -> None:
    """Looks at all images and writes them with their boxes."""
    output.mkdir(exist_ok=True)

    def read(path: Path) -> tuple[Path, np.ndarray, Any]:
        image = np.ascontiguousarray(read_image(path, "RGB"))
        return path, image, detector.prepare(image)

    def draw(path: Path, image: np.ndarray, boxes: Boxes) -> None:
        objects = [LabelledBox(tuple(box), "object", (255, 128, 0)) for box in boxes]
        Image.fromarray(draw_boxes(image, objects)).save(output / path.name, quality=90)

    with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(1) as writers:
        calls = [lambda path=path: read(path) for path in paths]
        ready = ahead(calls, readers, AHEAD * batch if overlap else 0)
        drawings: list[Future] = []
        while group := list(itertools.islice(ready, batch)):
            found = detector.find([prepared for *_, prepared in group])
            for (path, image, _), boxes in zip(group, found, strict=True):
                drawings.append(writers.submit(draw, path, image, boxes))
                if not overlap:
                    drawings[-1].result()
        for drawing in drawings:
            drawing.result()


def measure(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """Images per second and processor seconds an image of a side, after a first batch."""
    torch.manual_seed(0)
    detector = SIDES[side][1](given)
    paths = sorted(given.folder.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        options = (Path(folder), given.batch, "in turns" not in side)
        run(detector, paths[: given.batch], *options)
        wall, cpu = time.perf_counter(), time.process_time()
        run(detector, paths, *options)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "images/s": len(paths) / wall,
        "CPU s an image": cpu / len(paths),
        "parameters": sum(p.numel() for p in detector.modules.parameters()),
        "size": detector.size,
    }


def in_a_process(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a fresh process; or why it gave nothing."""
    arguments = ["throughput", "--side", side, "--folder", str(given.folder)]
    for name in ("batch", "size", "categories", "swin"):
        arguments += [f"--{name}", str(getattr(given, name))]
    figures, package = figures_of_process(arguments), SIDES[side][0]
    if package and figures.get("failure") == f"ModuleNotFoundError: No module named '{package}'":
        return {"failure": f"not installed: pip install {package}"}
    return figures


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=int, default=32, metavar="N", help="photographs (32)")
    add("--batch", type=int, default=4, metavar="B", help="images at once (4)")
    add("--size", type=int, default=0, metavar="N", help="longest side; 0: each its own (0)")
    add("--categories", type=int, default=13204, metavar="V")
    add("--swin", choices=CATEGORIES, default="swin_t", help="tiny: to see that it runs")
    add("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="NAME")
    add("--side", choices=SIDES, help=argparse.SUPPRESS)
    add("--folder", type=Path, help=argparse.SUPPRESS)
    add_json_argument(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    given = parse_arguments(arguments)
    if given.side:
        print(json.dumps(measure(given.side, given)))
        return 0
    print(f"{processor_name()}, {torch.get_num_threads()} threads, batches of {given.batch}\n")
    print("| | images/s | CPU s an image | parameters | size |\n|---|---|---|---|---|", flush=True)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        given.folder = Path(folder)
        make_photographs(given.folder, given.images)
        for side in given.sides:
            found[side] = figures = in_a_process(side, given)
            print(f"| {side} | {' | '.join(cells(figures))} |", flush=True)
    write_figures(given.json, {"sides": found})
    return 0


def cells(figures: dict[str, Any]) -> list[str]:
    """A side's row; dashes and the reason where it gave nothing."""
    if "failure" in figures:
        return ["–", "–", "–", figures["failure"]]
    rate, seconds = figures["images/s"], figures["CPU s an image"]
    return [
        f"{rate:.2f}",
        f"{seconds:.2f}",
        f"{figures['parameters'] / 1e6:.1f} M",
        figures["size"],
    ]


if __name__ == "__main__":
    sys.exit(main())

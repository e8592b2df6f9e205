"""Measures the data path at V3Det's size against Detectron2's own; makes the table of the docs.

Example:
    python projects_tools/benchmark.py data

Writes a made-up annotation file of V3Det's size (some 220 MiB, from a seed) into a temporary
folder, or takes that of an earlier run (--root). Each loading is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
import psutil
import torch
from benchmarks.machine import add_json_argument, processor_name, write_figures
from benchmarks.synthetic_v3det import SyntheticSize, write_synthetic_v3det
from detectron2.data import DatasetMapper
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode
from PIL import Image

from cqdino_d2.annotations import load_annotations, vocabulary_from_annotations
from cqdino_d2.annotations.cache import cache_places
from cqdino_d2.criterion import CategoryLoss
from cqdino_d2.data import CategoryDatasetMapper, Records, training_augmentations
from cqdino_d2.data.seeding import seeded_generators
from cqdino_d2.structures import ImageTargets

MIB = 2**20


def resident() -> float:
    """Of this process, in MiB."""
    return psutil.Process().memory_info().rss / MIB


def peak_resident() -> float:
    """The most that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def own_memory() -> float:
    """What this process shares with no other, in MiB."""
    return psutil.Process().memory_full_info().uss / MIB


def load_detectron2(json_file: Path) -> list[dict[str, Any]]:
    """Detectron2's list of dicts."""
    with contextlib.redirect_stdout(io.StringIO()):
        return load_coco_json(str(json_file), str(json_file.parent))


def load_ours(json_file: Path) -> Records:
    """Our records of the same file."""
    return Records.of_file(load_annotations(json_file), str(json_file.parent))


def _walk(records: Sequence[Mapping[str, Any]]) -> int:
    """Looks at every record; returns the number of boxes."""
    return sum(len(records[index]["annotations"]) for index in range(len(records)))


def _walk_in_worker(records: Sequence[Mapping[str, Any]], results: multiprocessing.Queue) -> None:
    before = own_memory()
    _walk(records)
    results.put(own_memory() - before)


def _measure_loading(
    load: Callable[[Path], Sequence[Mapping[str, Any]]], json_file: Path
) -> dict[str, float]:
    """Loads in this process and looks at every record, then lets a forked worker do so."""
    logging.disable(logging.WARNING)
    before = resident()
    cpu, wall = time.process_time(), time.perf_counter()
    records = load(json_file)
    found = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    found |= {"resident": resident() - before, "peak": peak_resident() - before}
    found |= {"images": len(records), "boxes": _walk(records)}
    found["walked"] = resident() - before
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    worker = context.Process(target=_walk_in_worker, args=(records, results))
    worker.start()
    found["worker"] = results.get()
    worker.join()
    return found


def _in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure_loading(json_file: Path, repeats: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Loading by Detectron2, by us without a cache, by us with one: medians of several runs."""
    kinds: dict[str, list[dict[str, float]]] = {"detectron2": [], "first": [], "cached": []}
    for _ in range(repeats):
        for place in cache_places(json_file):
            place.unlink(missing_ok=True)
        kinds["detectron2"].append(_in_new_process(_measure_loading, load_detectron2, json_file))
        kinds["first"].append(_in_new_process(_measure_loading, load_ours, json_file))
        kinds["cached"].append(_in_new_process(_measure_loading, load_ours, json_file))
    for kind, runs in kinds.items():
        yield kind, {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _pictures(folder: Path, count: int) -> list[dict[str, Any]]:
    """Records of made-up photographs (640 x 480, JPEG) with eight boxes each."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(count):
        small = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        path = folder / f"{index}.jpg"
        Image.fromarray(small).resize((640, 480), Image.BICUBIC).save(path, quality=92)
        boxes = np.concatenate([rng.uniform(0, 300, (8, 2)), rng.uniform(20, 170, (8, 2))], axis=1)
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": i, "iscrowd": 0}
            for i, box in enumerate(boxes.tolist())
        ]
        size = {"height": 480, "width": 640}
        records.append(
            {"file_name": str(path), "image_id": index, "annotations": annotations} | size
        )
    return records


def measure_mappers(folder: Path, repeats: int, count: int = 24) -> dict[str, float]:
    """Images per second of one core by Detectron2's mapper and by ours, image by image."""
    torch.set_num_threads(1)
    records = _pictures(folder, count)
    augmentations = training_augmentations()
    mappers = {
        "detectron2": DatasetMapper(is_train=True, augmentations=augmentations, image_format="RGB"),
        "ours": CategoryDatasetMapper(augmentations=augmentations),
    }
    speeds: dict[str, list[float]] = {name: [] for name in mappers}
    for repeat in range(repeats + 1):
        seconds = dict.fromkeys(mappers, 0.0)
        for index, record in enumerate(records):
            for name in list(mappers)[:: 1 if index % 2 else -1]:
                started = time.process_time()
                with seeded_generators([repeat, index]):
                    mappers[name](record)
                seconds[name] += time.process_time() - started
        if repeat:  # the first round warms up
            for name, spent in seconds.items():
                speeds[name].append(count / spent)
    return {name: statistics.median(values) for name, values in speeds.items()}


def measure_ancestors(json_file: Path, tree_file: Path, repeats: int = 50) -> dict[str, float]:
    """What the hierarchy costs.

    Returns:
        'tree_seconds' for the vocabulary with its tree, where the annotations are in the cache
        already, and 'milliseconds' for the labels and the ancestor mask of 16 images with 20
        boxes each.
    """
    seconds = []
    for _ in range(5):
        started = time.process_time()
        vocabulary = vocabulary_from_annotations(json_file, tree_file)
        seconds.append(time.process_time() - started)
    num_categories = len(vocabulary)
    loss = CategoryLoss(vocabulary=vocabulary, loss=torch.sub)
    generator = torch.Generator().manual_seed(0)
    targets = [
        ImageTargets(
            torch.zeros(20, 4), torch.randint(num_categories, (20,), generator=generator), (1, 1)
        )
        for _ in range(16)
    ]
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        loss.image_labels(targets, num_categories)
        times.append(1e3 * (time.perf_counter() - begun))
    return {"tree_seconds": statistics.median(seconds), "milliseconds": statistics.median(times)}


def processor() -> str:
    """The processor's name and the number of its cores that this process may use."""
    return f"{processor_name()}, {len(psutil.Process().cpu_affinity())} cores"


def loading_rows(loading: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """Lines of the table about loading: what, Detectron2, ours, bar."""
    theirs, first, cached = (loading[kind] for kind in ("detectron2", "first", "cached"))
    seconds, mebibytes = "{:.2f} s", "{:.0f} MiB"
    lines = [
        ("first load, CPU", "cpu", first["cpu"], seconds, "6 s"),
        ("later loads, CPU", "cpu", cached["cpu"], "{:.3f} s", "0.5 s"),
        ("resident after the first load", "resident", first["resident"], mebibytes, "150 MiB"),
        ("resident after a later load", "resident", cached["resident"], mebibytes, "150 MiB"),
        (
            "resident after a look at every record",
            "walked",
            max(first["walked"], cached["walked"]),
            mebibytes,
            "150 MiB",
        ),
        ("peak of the first load", "peak", first["peak"], mebibytes, ""),
        (
            "a worker's own memory, after a look at every record",
            "worker",
            max(first["worker"], cached["worker"]),
            "{:.1f} MiB",
            "20 MiB",
        ),
    ]
    return [
        (what, form.format(theirs[key]), form.format(ours), bar)
        for what, key, ours, form, bar in lines
    ]


def report_rows(
    loading: Mapping[str, Mapping[str, float]],
    mappers: Mapping[str, float],
    ancestors: Mapping[str, float],
) -> list[tuple[str, ...]]:
    """The table's rows: what, Detectron2, ours, bar."""
    speeds = (f"{mappers[name]:.1f} images/s" for name in ("detectron2", "ours"))
    tree_seconds = f"{ancestors['tree_seconds']:.2f} s"
    milliseconds = f"{ancestors['milliseconds']:.2f} ms"
    return [
        *loading_rows(loading),
        ("mapper, one core", *speeds, "no slower"),
        ("labels and ancestor mask, 16 x 20 boxes", "", milliseconds, "2 ms"),
        ("vocabulary with its tree (with the cache), CPU", "", tree_seconds, ""),
    ]


def report(
    size: SyntheticSize,
    loading: Mapping[str, Mapping[str, float]],
    mappers: Mapping[str, float],
    ancestors: Mapping[str, float],
) -> list[str]:
    """The table, as Markdown."""
    return [
        f"{size.images:,} images, {size.boxes:,} boxes, {size.categories:,} categories; "
        f"{processor()}; Python {platform.python_version()}, torch {torch.__version__}, "
        f"Detectron2 {detectron2.__version__}.",
        "",
        "| | Detectron2 | ours | bar |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in report_rows(loading, mappers, ancestors)),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="keep the made-up files here, or take them")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median is shown")
    parser.add_argument("--images", type=int, default=SyntheticSize.images)
    parser.add_argument("--boxes", type=int, default=SyntheticSize.boxes)
    add_json_argument(parser)
    given = parser.parse_args(arguments)
    size = SyntheticSize(images=given.images, boxes=given.boxes)
    with tempfile.TemporaryDirectory() as scratch:
        root = given.root or Path(scratch)
        folder = root / "V3Det/annotations"
        json_file = folder / "v3det_2023_v1_train.json"
        tree_file = folder / "v3det_2023_v1_category_tree.json"
        if not tree_file.is_file():
            write_synthetic_v3det(root, size)
        loading = dict(measure_loading(json_file, given.repeats))
        counts = {(int(run["images"]), int(run["boxes"])) for run in loading.values()}
        if counts != {(size.images, size.boxes)}:
            raise ValueError(f"the loaders disagree on images and boxes: {sorted(counts)}")
        mappers = measure_mappers(Path(scratch), 2 * given.repeats + 1)
        ancestors = measure_ancestors(json_file, tree_file)
    print("\n".join(report(size, loading, mappers, ancestors)))
    found = {"loading": loading, "mappers": mappers, "ancestors": ancestors}
    write_figures(given.json, found | {"rows": report_rows(loading, mappers, ancestors)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

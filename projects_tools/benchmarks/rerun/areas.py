"""The areas of docs/benchmarks.md: which benchmarks give their figures, in what time.

All steps together stay under two hours, as each is ended at its limit. ``{json}`` in arguments
stands for the file of figures, ``{data}`` for a folder that is kept, ``{others}`` for a Python with
the other libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.rerun import readings, text_readings
from benchmarks.rerun.readings import Reading

SWIN_B = "configs/v3det/cqdino_tree_swinb22k.py"
EDGE = "configs/grounding_dino/edge_640.py"
AXES = {
    "vocabulary": "categories",
    "image_size": "side of the image, pixels",
    "batch": "images at once",
    "boxes": "boxes of an image (training step)",
    "names": "names in the prompt",
    "results": "results to score",
}


_QUICK_POINTS = {"results": "200 300 400 500", "image_size": "32 48 64 96"}


@dataclass(frozen=True)
class Step:
    """One call of `benchmark.py`.

    Attributes:
        name: of its figures.
        arguments: of a full run.
        quick: what is added, or replaces the arguments, to see that it runs: see ``replaces``.
        minutes: after which it is ended.
        tables: names of those that it gives.
        read: makes them from its figures; None for a step that only prepares.
        threads: of the libraries, None for all.
        how: clock and repeats, for people.
        replaces: whether ``quick`` stands in place of ``arguments``.
    """

    name: str
    arguments: str
    quick: str
    minutes: float
    tables: tuple[str, ...] = ()
    read: Callable[[Any], list[Reading]] | None = None
    threads: int | None = None
    how: str = "wall time"
    replaces: bool = False


@dataclass(frozen=True)
class Area:
    """Steps whose tables stand on one page."""

    name: str
    page: str
    steps: tuple[Step, ...]


def _area(name: str, *steps: Step, page: str = "") -> Area:
    return Area(name, page or name, steps)


AREAS = [
    _area(
        "operators",
        Step(
            "ops",
            "ops --clock cpu --cases 'encoder, batch 1' 'decoder, 900 queries' --dtypes float32 "
            "bfloat16 --seconds 1 --json {json}",
            "--cases 'decoder, 900 queries, batch 1' --dtypes float32 --seconds 0.01",
            6,
            ("attention",),
            readings.operators,
            threads=1,
            how="processor seconds, medians in turns",
        ),
    ),
    _area(
        "cpu",
        Step(
            "cpu_room",
            "cpu_room --repeats 3 --json {json}",
            "--repeats 1 --cases quickstart",
            10,
            ("parts",),
            readings.cpu_parts,
            threads=1,
            how="processor seconds, medians of three in turns",
        ),
    ),
    _area(
        "categories",
        Step(
            "categories",
            "categories --bfloat16 --recompute selective --repeats 3 --cascade 256 --json {json}",
            "categories --vocabulary 200 --repeats 1 --cascade 120 --no-memory "
            "--modes inference --json {json}",
            12,
            ("part",),
            readings.category_part,
            how="wall time, medians of three in turns",
            replaces=True,
        ),
        Step(
            "vocabulary",
            f"profile_model --config-file {SWIN_B} --vocabulary 1000,13204,50000,130000 "
            "--modes inference,compact --repeats 1 --output {folder}",
            "profile_model --config-file configs/emojidet/tiny_tree.py --vocabulary 20,40 "
            "--size 64 96 --modes inference,compact --repeats 1 --output {folder}",
            8,
            ("vocabulary",),
            readings.vocabulary,
            how="wall time, one pass after a warm-up",
            replaces=True,
        ),
    ),
    _area(
        "model",
        Step(
            "stages",
            "model --repeats 3 --bfloat16 --json {json}",
            "--config-file configs/emojidet/tiny_tree.py --categories 30 --size 64 96 --repeats 1",
            5,
            ("stages",),
            readings.model_stages,
            how="wall time, medians of three in turns",
        ),
        Step(
            "training",
            "training_steps --steps 1 --json {json}",
            "--models tiny --size 64 96 --categories 30",
            12,
            ("training_swin_t", "training_swin_b"),
            readings.training_steps,
            how="wall time, one step after a warm-up",
        ),
    ),
    _area(
        "text_prompts",
        Step(
            "names",
            "text_prompts --rounds 3 --json {json}",
            "--rounds 1 --size 256 320",
            3,
            ("names",),
            text_readings.names,
            how="wall time, medians of three in turns",
        ),
        Step(
            "lvis",
            "text_prompts --lvis --rounds 1 --no-warm-up --json {json}",
            "--size 256 320 --most 80",
            10,
            ("lvis",),
            text_readings.lvis,
            how="wall time, one run",
        ),
        Step(
            "edge",
            "edge --rounds 3 --json {json}",
            "--rounds 1",
            2,
            ("edge",),
            text_readings.edge,
            how="wall time in ms, medians of three in turns",
        ),
        Step(
            "training",
            "text_training --json {json}",
            "--pairs tiny --size 64 64 --batch 2 --steps 1",
            2,
            ("training",),
            text_readings.training,
            threads=1,
            how="wall time, medians of 20 steps in turns",
        ),
    ),
    _area(
        "export",
        Step(
            "edge",
            f"export --config-file {EDGE} --size 640 640 --rounds 3 --json {{json}}",
            "--size 512 640 --rounds 1 --sides eager onnxruntime",
            6,
            ("edge",),
            text_readings.export,
            how="wall time, medians of three in turns",
        ),
    ),
    _area(
        "serving",
        Step(
            "serving",
            "serving --size 320 --seconds 8 --json {json}",
            "--size 64 --seconds 0.5 --clients 1 2",
            3,
            ("clients",),
            text_readings.serving,
            how="wall time, 8 s a row",
        ),
    ),
    _area(
        "throughput",
        Step(
            "throughput",
            "throughput --images 16 --json {json}",
            "--images 3 --batch 2 --size 96 --swin tiny --categories 40",
            10,
            ("folder",),
            text_readings.throughput,
            how="wall time of 16 photographs after a first batch",
        ),
    ),
    _area(
        "evaluation",
        Step(
            "sets",
            "make_synthetic_results --size v3det lvis coco --output {data}",
            "make_synthetic_results --size small --output {data}",
            4,
            replaces=True,
        ),
        Step(
            "evaluation",
            "evaluation --data {data} --others {others} --rounds 3 --json {json}",
            "--only small --rounds 1",
            13,
            ("v3det", "columns", "coco", "lvis"),
            readings.evaluation,
            how="medians of three, best in brackets",
        ),
    ),
    _area(
        "data",
        Step(
            "data",
            "data --json {json}",
            "--images 60 --boxes 14000 --repeats 1",
            4,
            ("data",),
            readings.data,
            how="medians of three, the sides in turns",
        ),
    ),
    _area(
        "growth",
        *(
            Step(
                axis,
                f"growth --axis {axis} --json {{json}}",
                f"--model tiny --repeats 1 --points {_QUICK_POINTS.get(axis, '9 10 12 16')}",
                1.5,
                (axis,),
                lambda figures, axis=axis: readings.growth(figures, AXES[axis]),
                threads=1,
                how="CPU seconds, medians of three",
            )
            for axis in AXES
        ),
        page="how_cost_grows",
    ),
]


def awaited_tables() -> set[str]:
    """AREA/NAME of all tables that a rerun gives."""
    return {
        f"{area.name}/{table}" for area in AREAS for step in area.steps for table in step.tables
    }

"""Runs all benchmarks, one after the other, each in a process of its own, and keeps their tables.

An area is done when its JSON file is in the output folder; what is done is skipped unless --again
is given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.doc_tables import DOCS, read_tables, write_docs
from benchmarks.machine import commit, processor_name

from cqdino_d2.files.atomic_file import write_text

ROOT = Path(__file__).resolve().parents[2]
QUIET = 0.5  # load average above which other work disturbs the figures
Runs = dict[str, tuple[str, str]]  # name of a run: its arguments, and those of toy size
_SETS = "make_synthetic_results --output {out}/sets --size"
_EDGE = "export --config-file configs/grounding_dino/edge_640.py --sides eager onnxruntime"
AREAS: dict[str, Runs] = {
    "operators": {
        "ops": ("ops", "ops --cases decoder --dtypes float32 --seconds 0.01"),
    },
    "cpu": {
        "cpu_room": (
            "cpu_room",
            "cpu_room --repeats 1 --vocabulary 40 --cases quickstart",
        )
    },
    "evaluation": {
        "sets": (f"{_SETS} v3det lvis coco", f"{_SETS} coco"),
        "evaluation": (
            "evaluation --data {out}/sets {others}",
            "evaluation --data {out}/sets --only coco --rounds 1",
        ),
    },
    "data": {"data": ("data", "data --images 300 --boxes 900 --repeats 1")},
    "categories": {
        "categories": (
            "categories --bfloat16 --recompute selective --repeats 3 --cascade 256",
            "categories --vocabulary 60 --repeats 1 --no-memory --modes inference",
        )
    },
    "model": {
        "model": (
            "model --repeats 3 --bfloat16",
            "model --categories 60 --size 64 64 --repeats 1 --only-ours",
        )
    },
    "text_prompts": {
        "text_prompts": ("text_prompts", "text_prompts --rounds 1 --size 64 64"),
        "edge": ("edge", "edge --rounds 1"),
    },
    "training": {
        "time_model": ("time_model --batch 12", "time_model --batch 2 --steps 1"),
        "text_training": ("text_training", "text_training --pairs tiny --steps 1 --batch 2"),
    },
    "serving": {
        "export": (_EDGE + " --size 640 640", _EDGE + " --size 64 64 --rounds 1"),
        "serving": (
            "serving --size 320 --seconds 8",
            "serving --size 64 --seconds 1 --clients 1",
        ),
    },
}


def about_the_run(quick: bool) -> dict[str, Any]:
    """What a figure needs beside it: processor, commit, date, load average when it began."""
    load = os.getloadavg()[0]
    if load > QUIET:
        print(f"load average {load:.1f}: other work disturbs the figures", file=sys.stderr)
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "load": round(load, 2),
        "quiet": load <= QUIET,
        "quick": quick,
        "recorded": False,
    }


def run_one(command: str, limit: float) -> tuple[list[dict[str, Any]], str]:
    """Runs a benchmark; returns its tables, and why there are none (empty when there are).

    What it prints is one table of one column where it prints no Markdown table.
    """
    tool = [sys.executable, str(ROOT / "projects_tools/benchmark.py")]
    try:
        done = subprocess.run(
            [*tool, *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return [], f"not done after {limit:.0f} s"
    if done.returncode:
        last = done.stderr.strip().splitlines() or ["no message"]
        return [], f"exit code {done.returncode}: {last[-1]}"
    lines = [line.replace("|", "/") for line in done.stdout.splitlines() if line.strip()]
    plain = [{"head": ["output"], "rows": [[line] for line in lines]}] if lines else []
    return read_tables(done.stdout) or plain, ""


def run_area(
    area: str, output: Path, quick: bool, limit: float, others: str | None = None
) -> dict[str, Any]:
    """Runs what an area has; a run that fails is a dash with the reason."""
    tables: dict[str, Any] = {}
    peers = f"--others {others}" if others else ""
    for name, commands in AREAS[area].items():
        command = commands[quick].format(out=output, others=peers)
        about = about_the_run(quick) | {"command": command}
        print(f"{area}: {command}", flush=True)
        found, reason = run_one(command, limit)
        if reason:
            print(f"{area}: {name}: {reason}", file=sys.stderr)
            found = [{"head": ["", "reason"], "rows": [["-", reason.replace("|", "/")]]}]
        for number, table in enumerate(found, start=1):
            tables[f"{name} {number}"] = about | table | {"failed": bool(reason)}
    return {"area": area, "tables": tables}


def adopt(output: Path, docs: Path = DOCS) -> None:
    """Lets figures of a rerun replace those stored for the pages; failed and toy ones do not."""
    for file in sorted(output.glob("*.json")):
        stored = docs / file.name
        kept = json.loads(stored.read_text("utf-8")) if stored.is_file() else {"tables": {}}
        new = json.loads(file.read_text("utf-8"))["tables"]
        good = {key: t for key, t in new.items() if not (t["failed"] or t["quick"])}
        kept = {"area": file.stem, "tables": kept["tables"] | good}
        write_text(stored, json.dumps(kept, indent=1) + "\n")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Areas that are not there, and toy figures for the pages, end the run with one line."""
    parser = argparse.ArgumentParser(prog="benchmark.py all", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", default=",".join(AREAS), metavar="AREA,...")
    parser.add_argument("--again", action="store_true", help="also what is done")
    parser.add_argument("--quick", action="store_true", help="toy sizes: whether it runs")
    parser.add_argument("--limit", type=float, default=1500, metavar="S", help="for each run")
    parser.add_argument("--others", metavar="PYTHON", help="interpreter with other evaluators")
    parser.add_argument("--write-docs", action="store_true", help="bring the tables into docs/")
    given = parser.parse_args(arguments)
    unknown = [area for area in given.only.split(",") if area not in AREAS]
    if unknown:
        parser.error(f"--only: there is no area {unknown[0]!r}, only {', '.join(AREAS)}")
    if given.quick and given.write_docs:
        parser.error("--write-docs: toy figures of --quick are not for the pages")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Runs the areas that are not done; returns 0 also where runs failed."""
    given = parse_arguments(arguments)
    output = given.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for area in given.only.split(","):
        file = output / f"{area}.json"
        if file.is_file() and not given.again:
            print(f"{area}: done before, {file}")
            continue
        result = run_area(area, output, given.quick, given.limit, given.others)
        write_text(file, json.dumps(result, indent=1) + "\n")
    if given.write_docs:
        adopt(output)
        for key in write_docs():
            print(f"no page has a place for table {key}", file=sys.stderr)
    return 0

"""Measures the evaluation and others on the same files in one run; prints Markdown tables.

Example:
    python projects_tools/benchmark.py make_synthetic_results --size v3det lvis coco \\
        --output /tmp/sets
    python projects_tools/benchmark.py evaluation --data /tmp/sets --others VENV/bin/python

--others is a Python with hotcoco, ultrafast-pycocotools, faster-coco-eval and pycocotools; without
it only ours is measured. Every measurement is a process of its own; the contestants take turns,
and the medians of all rounds are shown, for the whole process its best time too (machines are
busy). Memory is the process's largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.machine import add_json_argument, processor_name, write_figures

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "projects_tools" / "evaluate_results.py"
_TIMEOUT = 3600  # seconds

# Prints one JSON line: seconds to load, seconds and CPU seconds to evaluate, AP.
_PYCOCOTOOLS_LIKE = """
import contextlib, io, json, sys, time
{imports}
folder, limit = sys.argv[1], int(sys.argv[2])
with contextlib.redirect_stdout(io.StringIO()):
    start = time.perf_counter()
    truth = COCO(folder + "/annotations.json")
    found = truth.{load}(folder + "/results.json")
    loaded, cpu = time.perf_counter(), time.process_time()
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.{limits} = [1, 10, limit]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    done = time.perf_counter()
    cpu = time.process_time() - cpu
print(json.dumps(dict(load=loaded - start, evaluate=done - loaded, cpu=cpu,
                      AP50=100 * float(evaluation.stats[1]))))
"""
OTHERS = {
    "pycocotools": (
        "from pycocotools.coco import COCO\nfrom pycocotools.cocoeval import COCOeval",
        "loadRes",
        "maxDets",
    ),
    "hotcoco": ("from hotcoco import COCO, COCOeval", "load_res", "max_dets"),
    "ultrafast-pycocotools": (
        "from ultrafast_pycocotools import COCO, COCOeval",
        "loadRes",
        "maxDets",
    ),
    "faster-coco-eval": (
        "from faster_coco_eval import COCO, COCOeval_faster as COCOeval",
        "loadRes",
        "maxDets",
    ),
}
_OURS = """
import json, sys, time
from pathlib import Path
from cqdino_d2.evaluation.scoring import make_protocol, read_tree
from cqdino_d2.evaluation import load_ground_truth, load_results
folder, name, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
start = time.perf_counter()
truth = load_ground_truth(folder / "annotations.json")
tree = read_tree(folder / "category_tree.json" if name == "v3det" else None, truth)
if tree is not None:
    tree.category_ancestors  # part of the tree
found = load_results(folder / "results.json", truth)
loaded, cpu = time.perf_counter(), time.process_time()
report = make_protocol(name, limit, tree).evaluate(truth, found)
done = time.perf_counter()
print(json.dumps(dict(load=loaded - start, evaluate=done - loaded,
                      cpu=time.process_time() - cpu, AP50=report.figures["AP50"])))
"""


@dataclass
class Contestant:
    """A command that is measured again and again.

    Attributes:
        name: of the row.
        command: prints a line of JSON, or writes the file ``metrics``.
        rounds: how often it runs at most.
        memory_limit: bytes of address space, or None.
        environment: added to the process's.
        metrics: a file with its AP50, where it prints none.
    """

    name: str
    command: Sequence[str]
    rounds: int
    memory_limit: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    metrics: Path | None = None
    runs: list[dict[str, float]] = field(default_factory=list)
    failure: str = ""

    def run(self) -> None:
        """Measures once."""

        def limit() -> None:
            if self.memory_limit is not None:
                resource.setrlimit(resource.RLIMIT_AS, (self.memory_limit, self.memory_limit))

        started = time.perf_counter()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=errors,
                preexec_fn=limit,
                env=os.environ | self.environment,
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            for stream in (output, errors):
                stream.seek(0)
            printed, said = output.read().decode(), errors.read().decode()
        if process.returncode:
            last = (said.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            self.failure = last[:100]
            return
        run: dict[str, float] = {}
        if self.metrics is not None:
            run["AP50"] = json.loads(self.metrics.read_text())["AP50"]
        else:
            run |= json.loads(printed.strip().splitlines()[-1])
        run |= {
            "wall": wall,
            "process_cpu": usage.ru_utime + usage.ru_stime,
            "GB": usage.ru_maxrss * 1024 / 1e9,
        }
        self.runs.append(run)

    def median(self, key: str) -> float:
        """Over the runs; nan without any."""
        values = [run[key] for run in self.runs if key in run]
        return statistics.median(values) if values else float("nan")

    def figures(self) -> dict[str, Any]:
        """Medians by name, the best whole process, and why there are none."""
        keys = dict.fromkeys(key for run in self.runs for key in run)
        best = {"best": min(run["wall"] for run in self.runs)} if self.runs else {}
        medians = {key: self.median(key) for key in keys}
        return {"name": self.name, "failure": self.failure, **medians, **best}


def other(name: str, given: argparse.Namespace, size: str, limit: int, **more: Any) -> Contestant:
    """One of the other libraries."""
    imports, load, limits = OTHERS[name]
    code = _PYCOCOTOOLS_LIKE.format(imports=imports, load=load, limits=limits)
    command = [given.others, "-c", code, str(given.data / size), str(limit)]
    return Contestant(name, command, **({"rounds": given.rounds} | more))


def ours(
    name: str, given: argparse.Namespace, size: str, protocol: str, limit: int, **more: Any
) -> Contestant:
    """Our evaluation in one process, timed within it."""
    code = _OURS.format(root=str(ROOT))
    command = [sys.executable, "-W", "ignore", "-c", code, str(given.data / size)]
    return Contestant(name, [*command, protocol, str(limit)], **({"rounds": given.rounds} | more))


def tool(
    name: str, given: argparse.Namespace, size: str, protocol: str, limit: int, scratch: Path
) -> Contestant:
    """Our command line."""
    folder, metrics = given.data / size, scratch / f"{size}-{protocol}.json"
    command = [sys.executable, "-W", "ignore", str(TOOL), "--protocol", protocol]
    command += ["--annotations", str(folder / "annotations.json"), "--max-dets", str(limit)]
    command += ["--results", str(folder / "results.json"), "--output", str(metrics)]
    if protocol == "v3det":
        command += ["--category-tree", str(folder / "category_tree.json")]
    return Contestant(name, command, given.rounds, metrics=metrics)


def compete(title: str, contestants: list[Contestant]) -> list[dict[str, Any]]:
    """Lets them take turns, prints the table and returns its figures."""
    for turn in range(max(c.rounds for c in contestants)):
        for contestant in contestants:
            if turn < contestant.rounds and not contestant.failure:
                contestant.run()
                took = contestant.runs[-1] if contestant.runs else contestant.failure
                print(f"[{title}] {turn + 1} {contestant.name}: {took}", file=sys.stderr)
    print(f"\n### {title}\n")
    heads = ("whole process (best)", "CPU of it", "memory", "evaluation alone", "CPU of it")
    print("| | " + " | ".join((*heads, "AP50", "runs")) + " |")
    print("|---|---|---|---|---|---|---|---|")
    for c in contestants:
        if not c.runs:
            print(f"| {c.name} | failed: {c.failure} | | | | | | 0 |")
            continue
        best = min(run["wall"] for run in c.runs)
        cells = [f"{c.median('wall'):.1f} s ({best:.1f})", f"{c.median('process_cpu'):.1f} s"]
        cells.append(f"{c.median('GB'):.2f} GB")
        for key in ("evaluate", "cpu"):
            cells.append(f"{c.median(key):.2f} s" if key in c.runs[0] else "")
        print(f"| {c.name} | {' | '.join(cells)} | {c.median('AP50'):.6f} | {len(c.runs)} |")
    return [contestant.figures() for contestant in contestants]


def describe_machine(given: argparse.Namespace) -> None:
    """Prints what was measured on what."""
    load = os.getloadavg()[0]
    print(f"{processor_name()}, {os.cpu_count()} cores, {platform.system()}; load {load:.1f}")
    names = [f"Python {platform.python_version()}"]
    names += [f"{p} {metadata.version(p)}" for p in ("numpy", "torch", "msgspec")]
    if given.others:
        code = "import sys\nfrom importlib.metadata import distributions\n"
        code += "found = {d.name: d.version for d in distributions()}\n"
        code += "print(*(f'{p} {found[p]}' for p in sys.argv[1:] if p in found), sep=', ')"
        told = subprocess.run(
            [given.others, "-c", code, *OTHERS], capture_output=True, text=True, check=True
        )
        names.append(told.stdout.strip())
    print(", ".join(names), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the comparisons that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--others", metavar="PYTHON", help="interpreter with the other libraries")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--numpy-rounds", type=int, default=1, help="of the slow NumPy version")
    parser.add_argument("--memory-limit", type=float, default=10, help="GB for faster-coco-eval")
    parser.add_argument("--only", nargs="+", choices=("v3det", "coco", "lvis", "small"))
    add_json_argument(parser)
    given = parser.parse_args(arguments)
    wanted = given.only or ("v3det", "coco", "lvis")
    describe_machine(given)
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        if "v3det" in wanted:
            found |= compete_v3det(given, Path(scratch))
        for size in [name for name in ("coco", "small") if name in wanted]:
            rows = [ours("ours", given, size, "coco", 100)]
            if given.others:
                names = ("pycocotools", "hotcoco", "ultrafast-pycocotools", "faster-coco-eval")
                rows += [other(name, given, size, 100) for name in names]
            found[size] = compete(f"{size} val size, COCO's protocol", rows)
        if "lvis" in wanted:
            rows = [tool("ours", given, "lvis", "lvis", 300, Path(scratch))]
            found["lvis"] = compete("LVIS val size, LVIS' protocol", rows)
    write_figures(given.json, found)
    return 0


def compete_v3det(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """From JSON, like the others; from columns; with NumPy."""
    rows = [
        tool("ours, V3Det's protocol", given, "v3det", "v3det", 300, scratch),
        tool("ours, COCO's protocol", given, "v3det", "coco", 300, scratch),
    ]
    if given.others:
        names = ("hotcoco", "ultrafast-pycocotools")
        rows += [other(name, given, "v3det", 300) for name in names]
        limit = int(given.memory_limit * 1e9)
        rows.append(other("faster-coco-eval", given, "v3det", 300, rounds=1, memory_limit=limit))
    found = {"v3det": compete("V3Det val size, from JSON", rows)}
    numpy = {"CQDINO_DISABLE_EXTENSION": "1"}
    rows = [
        ours("ours, C++", given, "v3det", "v3det", 300),
        ours(
            "ours, NumPy",
            given,
            "v3det",
            "v3det",
            300,
            rounds=given.numpy_rounds,
            environment=numpy,
        ),
    ]
    title = "V3Det val size, V3Det's protocol, timed within the process"
    return found | {"columns": compete(title, rows)}


if __name__ == "__main__":
    sys.exit(main())

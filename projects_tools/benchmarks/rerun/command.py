"""Measures all figures of docs/benchmarks.md again and writes their tables, in under two hours.

Examples:
    python projects_tools/benchmark.py all --output output/benchmarks --others VENV/bin/python
    python projects_tools/benchmark.py all --output output/benchmarks --only evaluation data --again
    python projects_tools/benchmark.py all --output output/benchmarks --write-docs

Each area runs its benchmarks as fresh processes and leaves DIR/AREA.json: figures, tables,
processor, date, commit and the load at the start. Areas that are finished are skipped, so that an
interrupted run goes on; what fails or is not installed becomes a dash with the reason and does not
end the run. DIR/tables.md holds the tables. --write-docs brings all finished areas of DIR into
docs/benchmarks/ and its pages; tables that no benchmark gives again stay as they are. The exit code
is 1 where an area gave no table at all.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, figures_of_process, processor_with_family
from benchmarks.rerun.areas import AREAS, AXES, Area, Step, awaited_tables
from benchmarks.rerun.laws import plot
from benchmarks.rerun.readings import Reading
from benchmarks.rerun.tables import Headline, Results, Run, Table, read_all, with_tables

from cqdino_d2.files import write_atomically

ROOT = Path(__file__).resolve().parents[3]
QUIET = 0.25  # load a core above which others disturb the figures


@dataclass(frozen=True)
class Session:
    """What all steps of a run share.

    Attributes:
        output: folder of the results.
        others: a Python with the other libraries.
        quick: whether toy sizes are measured.
    """

    output: Path
    others: str
    quick: bool

    def arguments(self, step: Step, area: Area) -> tuple[list[str], Path]:
        """Of a step, and the file that it writes."""
        folder = (self.output / area.name / step.name).absolute()
        text = step.quick if self.quick and step.replaces else step.arguments
        text += f" {step.quick}" if self.quick and not step.replaces else ""
        places = {"json": folder / "figures.json", "folder": folder, "others": self.others}
        places["data"] = (self.output / "data").absolute()
        words = [word.format(**places) for word in shlex.split(text)]
        return words, folder / ("figures.json" if "{json}" in text else "profile.json")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Average of the last minute, None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def run_of(step: Step, at_start: float | None) -> Run:
    """Where a step's figures come from."""
    threads = step.threads or int(os.environ.get("OMP_NUM_THREADS") or cores())
    processor = f"{processor_with_family()}, {threads} thread{'s' if threads > 1 else ''}"
    today = datetime.date.today().isoformat()
    return Run(processor, today, commit() or "no commit", load=at_start, how=step.how)


def measure_area(area: Area, session: Session) -> Results:
    """Runs all steps; what fails is noted."""
    results = Results(area.name, area.page, {}, [])
    for step in area.steps:
        arguments, file = session.arguments(step, area)
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"{area.name}: benchmark.py {shlex.join(arguments)}", file=sys.stderr, flush=True)
        run = run_of(step, load())
        options: dict[str, Any] = {"timeout": 60 * step.minutes, "threads": step.threads}
        if step.read is None:
            figures = figures_of_process(arguments, output=False, **options)
        else:
            figures = figures_of_process(arguments, file=file, **options)
        if "failure" in figures:
            results.failed[step.name] = figures["failure"]
            print(f"{area.name}: {step.name}: {figures['failure']}", file=sys.stderr, flush=True)
        elif step.read is not None:
            results.figures[step.name] = figures
            for reading in step.read(figures):
                add_reading(results, reading, run)
    return results


def add_reading(results: Results, reading: Reading, run: Run) -> None:
    """Makes a reading part of an area's results."""
    rows = [list(row) for row in reading.rows]
    reasons = dict(reading.reasons)
    results.tables[reading.name] = Table(list(reading.columns), rows, run, reasons)
    results.headlines.extend(Headline(*one, table=reading.name) for one in reading.headlines)


def measure(areas: Sequence[Area], session: Session, again: bool) -> dict[str, Results]:
    """Measures the areas that are not finished yet; the results of all."""
    found = read_all(session.output)
    for area in areas:
        if area.name in found and not found[area.name].failed and not again:
            print(f"{area.name}: finished before", file=sys.stderr)
            continue
        found[area.name] = measure_area(area, session)
        found[area.name].save(session.output / f"{area.name}.json")
        write_text(session.output / "tables.md", tables_page(found))
    return {area.name: found[area.name] for area in areas}


def tables_page(found: dict[str, Results]) -> str:
    """All tables of some areas on one page."""
    parts = ["# Benchmarks\n", "<!-- table: summary -->\n<!-- end -->\n"]
    for area, results in found.items():
        parts.append(f"## {area}\n")
        parts += [f"<!-- table: {area}/{name} -->\n<!-- end -->\n" for name in results.tables]
        parts += [f"{step}: {why}\n" for step, why in results.failed.items()]
    return with_tables("\n".join(parts), found)


def write_docs(docs: Path, newer: dict[str, Results]) -> None:
    """Brings results into the stored ones, and all of them into the pages.

    Args:
        docs: with benchmarks.md and the folder benchmarks/.
        newer: results of a full run, by area; none to write the pages again.
    """
    folder = docs / "benchmarks"
    stored = read_all(folder)
    for area, results in newer.items():
        whole = replace(results, failed={})
        stored[area] = stored[area].replaced_by(whole) if area in stored else whole
        stored[area].save(folder / f"{area}.json")
    stored = read_all(folder)
    for page in (docs / "benchmarks.md", *sorted(folder.glob("*.md"))):
        text = with_tables(page.read_text(encoding="utf-8"), stored, awaited_tables())
        write_text(page, text)
    for axis, figures in (stored["growth"].figures if "growth" in stored else {}).items():
        (folder / "growth").mkdir(exist_ok=True)
        plot(figures["points"], AXES[axis], folder / "growth" / f"{axis}.svg")


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    areas = {area.name: area for area in AREAS}
    add("--output", type=Path, metavar="DIR", help="of the results; needed to measure")
    add("--only", nargs="+", choices=areas, default=list(areas), metavar="AREA")
    add("--again", action="store_true", help="measure finished areas again, too")
    add("--quick", action="store_true", help="toy sizes, into DIR/quick: to see that it runs")
    add("--others", default=sys.executable, metavar="PYTHON", help="interpreter with other scorers")
    add("--write-docs", action="store_true", help="bring the results into docs/benchmarks/")
    given = parser.parse_args(arguments)
    if given.output is None and not given.write_docs:
        parser.error("--output says where the results go")
    if given.quick and given.write_docs:
        parser.error("--quick measures toy sizes, which are not for --write-docs")
    given.areas = [areas[name] for name in dict.fromkeys(given.only)]
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and writes what was asked for."""
    given = parse_arguments(arguments)
    found: dict[str, Results] = {}
    if given.output is not None:
        now = load()
        if now is not None and now > QUIET * cores():
            print(f"load {now} on {cores()} cores: other work disturbs the times", file=sys.stderr)
        output = given.output / "quick" if given.quick else given.output
        output.mkdir(parents=True, exist_ok=True)
        found = measure(given.areas, Session(output, given.others, given.quick), given.again)
        print(output / "tables.md")
    if given.write_docs:
        write_docs(ROOT / "docs", found)
    return int(any(not results.tables for results in found.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Puts small faults into the package, one at a time, and sees whether the tests find them.

Example:
    python projects_tools/mutation_run.py --count 60 --seed 0 --output mutations.md
    python projects_tools/mutation_run.py --folders transformer criterion --numbers 3 7

The faults (see mutations.py) are drawn by a seed, spread over the folders of the package by their
lines, folders of numerics counting more. Each goes into a scratch copy of the checkout, where the
tests of its folder and of the folders nearest to it run until the first failure. The tests must
pass without a fault first (--no-check leaves that out). Writes a table in Markdown after every
result; the exit code is 0 if all faults were found. Whether a survivor changes anything at all is
for the reader to judge.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .mutations import Mutation, find_mutations, sample_mutations

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "cqdino_d2"
# How much a line of a folder counts.
_NUMERICS = ("structures", "layers", "ops", "backbone", "transformer", "criterion", "categories")
_WEIGHTS = dict.fromkeys((*_NUMERICS, "detector"), 3.0)
_WEIGHTS |= dict.fromkeys(("annotations", "data", "evaluation", "engine"), 1.0)
_OTHER_WEIGHT = 0.5
_TOOLS = "tests/projects_tools"
# The tests of a folder are tests/FOLDER and these.
_RELATED = {
    "structures": ("tests/transformer", "tests/criterion", "tests/categories", "tests/detector"),
    "layers": ("tests/transformer", "tests/criterion", "tests/categories"),
    "backbone": ("tests/detector",),
    "categories": ("tests/detector",),
    "transformer": ("tests/detector",),
    "criterion": ("tests/detector",),
    "detector": ("tests/prediction",),
    "annotations": ("tests/data", "tests/evaluation", f"{_TOOLS}/test_check_dataset.py"),
    "data": (f"{_TOOLS}/test_check_dataset.py",),
    "evaluation": (f"{_TOOLS}/test_evaluate_results.py",),
    "engine": ("tests/prediction",),
    "files": ("tests/data", "tests/checkpoint", "tests/annotations", "tests/visualization"),
    "checkpoint": (f"{_TOOLS}/test_convert_checkpoint.py", f"{_TOOLS}/test_check_parity.py"),
    "prediction": (f"{_TOOLS}/test_demo.py",),
    "visualization": ("tests/reports", f"{_TOOLS}/test_visualize_results.py"),
    "reports": (f"{_TOOLS}/test_visualize_results.py",),
    "export": (f"{_TOOLS}/test_export.py",),
    "serving": (f"{_TOOLS}/test_web_demo.py",),
    "text": (f"{_TOOLS}/test_build_category_embeddings.py",),
}
_NOT_COPIED = (".git", "__pycache__", "output", "build", "datasets", ".venv*", ".cache", ".*_cache")
# Imported once and shared by all runs, which are forked; nothing of the package itself.
_SHARED = (
    *("pytest", "hypothesis", "scipy.optimize", "torchvision", "timm", "detectron2.engine"),
    *("detectron2.data", "detectron2.modeling", "pycocotools.cocoeval", "omegaconf"),
)
_OUTCOMES = {0: "SURVIVED", 1: "caught", 2: "caught"}  # pytest's exit codes; 2: in collection


@dataclass(frozen=True)
class Job:
    """Tests to run in a copy of the checkout.

    Attributes:
        tests: paths relative to the root.
        mutation: None for the run without a fault.
        limit: seconds after which it is stopped.
    """

    tests: tuple[str, ...]
    mutation: Mutation | None
    limit: float


@dataclass(frozen=True)
class Result:
    """How a job ended.

    Attributes:
        outcome: "caught", "SURVIVED", or what else happened.
        by: the first test that failed, empty if none.
        seconds: how long it took.
    """

    outcome: str
    by: str
    seconds: float


def share_out(lines: Mapping[str, float], count: int) -> dict[str, int]:
    """How many of ``count`` each folder gets, at least one, by largest remainders."""
    total = sum(lines.values())
    exact = {name: count * share / total for name, share in lines.items()}
    quotas = {name: max(1, int(share)) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: int(exact[name]) - exact[name]):
        if sum(quotas.values()) < count:
            quotas[name] += 1
    return quotas


def tests_of(folder: str) -> tuple[str, ...]:
    """The tests of a folder, its own first; what does not exist is left out."""
    wanted = (f"tests/{folder}", *_RELATED.get(folder, ()))
    return tuple(path for path in wanted if (ROOT / path).exists())


def draw(folders: Sequence[str], count: int, seed: int) -> list[tuple[str, Mutation]]:
    """(folder, mutation), spread over the folders by weighted lines."""
    found: dict[str, list[Mutation]] = {}
    lines: dict[str, float] = {}
    for folder in folders:
        paths = sorted((ROOT / PACKAGE / folder).rglob("*.py"))
        found[folder] = [m for path in paths for m in find_mutations(ROOT, path)]
        length = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
        if found[folder] and tests_of(folder):
            lines[folder] = length * _WEIGHTS.get(folder, _OTHER_WEIGHT)
    drawn = sample_mutations(ROOT, found, share_out(lines, count), seed)
    return [(Path(mutation.path).parts[1], mutation) for mutation in drawn]


def make_copies(scratch: Path, count: int) -> list[Path]:
    """Copies of the checkout, with what was compiled in it, and what all runs import loaded."""
    for name in _SHARED:
        importlib.import_module(name)
    copies = [scratch / str(number) for number in range(count)]
    for copy in copies:
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    return copies


def run_jobs(
    jobs: Sequence[Job], copies: Sequence[Path], report: Callable[[int, Result], None]
) -> None:
    """Runs all jobs, as many at a time as there are copies of the checkout.

    Args:
        jobs: what to run.
        copies: see `make_copies`; they are left as they were.
        report: is called with a job's number and its result.
    """
    waiting, idle = list(enumerate(jobs)), list(copies)
    busy: dict[int, tuple[int, Job, Path, float]] = {}
    try:
        while waiting or busy:
            while waiting and idle:
                number, job = waiting.pop(0)
                copy = idle.pop()
                busy[_start(job, copy)] = (number, job, copy, time.monotonic())
            time.sleep(0.1)
            for process, (number, job, copy, began) in list(busy.items()):
                seconds = time.monotonic() - began
                ended, status = os.waitpid(process, os.WNOHANG)
                if not ended and seconds <= job.limit:
                    continue
                del busy[process]
                code = os.waitstatus_to_exitcode(status) if ended else _stop(process)
                if job.mutation is not None:
                    text = (ROOT / job.mutation.path).read_text(encoding="utf-8")
                    _write(copy / job.mutation.path, text)
                report(number, _result(code, copy, seconds))
                idle.append(copy)
    finally:
        for process in busy:
            _stop(process)


def _write(path: Path, text: str) -> None:
    """Writes a file at a time of its own, by which its byte code is told from that of before."""
    time_before = path.stat().st_mtime
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time_before + 2, time_before + 2))


def _stop(process: int) -> None:
    """Ends a process with all that it started."""
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)


def _start(job: Job, copy: Path) -> int:
    """Forks a process of its own group that runs the tests; returns its id."""
    if job.mutation is not None:
        text = (ROOT / job.mutation.path).read_text(encoding="utf-8")
        _write(copy / job.mutation.path, job.mutation.apply(text))
    process = os.fork()
    if process == 0:
        code = 3
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            code = _run_tests(job, copy)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return process


def _run_tests(job: Job, copy: Path) -> int:
    sys.stdout = sys.stderr = log = open(_log_of(copy), "w", encoding="utf-8")
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    sys.path[:] = [str(copy), *(p for p in sys.path if not _is_own(p))]
    for name, module in list(sys.modules.items()):
        if _is_own(getattr(module, "__file__", None)):
            del sys.modules[name]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--durations=0", "-W", "ignore"]
    base = f"--basetemp={copy.parent / f'{copy.name}.files'}"
    return int(importlib.import_module("pytest").main([*options, base, *job.tests]))


def _is_own(path: str | None) -> bool:
    return path is not None and Path(path).resolve().is_relative_to(ROOT)


def _log_of(copy: Path) -> Path:
    return copy.parent / f"{copy.name}.log"


def _result(code: int | None, copy: Path, seconds: float) -> Result:
    if code is None:
        return Result("caught (time)", "", seconds)
    if code < 0:
        return Result(f"caught (signal {-code})", "", seconds)
    log = _log_of(copy).read_text(encoding="utf-8", errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    outcome = _OUTCOMES.get(code, f"not run (pytest's exit code {code})")
    return Result(outcome, failed[1] if failed else "", seconds)


def table(drawn: Sequence[tuple[str, Mutation]], results: Mapping[int, Result]) -> str:
    """Markdown: a summary and a line per mutation."""
    outcomes = [result.outcome for result in results.values()]
    survived = outcomes.count("SURVIVED")
    lines = [
        f"{len(outcomes)} of {len(drawn)} mutations run: {survived} survived.",
        "",
        "| # | place | kind | from | to | tests | result | by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for number, result in sorted(results.items()):
        folder, mutation = drawn[number]
        tests = ", ".join(path.removeprefix("tests/") for path in tests_of(folder))
        place = f"{mutation.path.removeprefix(PACKAGE + '/')}:{mutation.line}"
        cells = (_cell(mutation.before), _cell(mutation.after))
        by = result.by.removeprefix("tests/").replace("|", "\\|")
        lines.append(
            f"| {number} | {place} | {mutation.kind} | {cells[0]} | {cells[1]} | {tests} "
            f"| {result.outcome} | {by} |"
        )
    return "\n".join(lines) + "\n"


def _cell(code: str, most: int = 70) -> str:
    text = " ".join(code.split())
    text = text if len(text) <= most else text[: most - 3] + "..."
    return "`" + text.replace("|", "\\|") + "`"


def measure_tests(paths: Sequence[str], copies: Sequence[Path]) -> dict[str, float]:
    """Seconds that each path's tests take without a fault.

    Raises:
        ValueError: tests that do not pass.
    """
    seconds: dict[str, float] = {}
    failed = []

    def report(number: int, result: Result) -> None:
        seconds[paths[number]] = result.seconds
        if result.outcome != "SURVIVED":
            failed.append(f"{paths[number]}: {result.outcome} {result.by}")

    run_jobs([Job((path,), None, 1800.0) for path in paths], copies, report)
    if failed:
        raise ValueError("tests do not pass without a fault: " + "; ".join(failed))
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Draws, runs and writes the table; 1 if a mutation survived."""
    options = parse_arguments(arguments)
    drawn = draw(options.folders, options.count, options.seed)
    numbers = options.numbers or range(len(drawn))
    for number in numbers:
        mutation = drawn[number][1]
        print(f"{number:3d} {mutation.path}:{mutation.line} {mutation.kind}", flush=True)
    if options.list:
        return 0
    results: dict[int, Result] = {}

    def report(place: int, result: Result) -> None:
        results[numbers[place]] = result
        options.output.write_text(table(drawn, results), encoding="utf-8")
        print(
            f"{numbers[place]:3d} {result.outcome} {result.by} {result.seconds:.0f} s", flush=True
        )

    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        wanted = [tests_of(drawn[number][0]) for number in numbers]
        paths = sorted({path for tests in wanted for path in tests})
        copies = make_copies(Path(scratch), options.workers)
        seconds = dict.fromkeys(paths, 300.0)
        if not options.no_check:
            seconds = measure_tests(paths, copies)
        jobs = [
            Job(tests, drawn[number][1], 60 + 4 * sum(seconds[path] for path in tests))
            for number, tests in zip(numbers, wanted, strict=True)
        ]
        run_jobs(jobs, copies, report)
    return int(any(not result.outcome.startswith("caught") for result in results.values()))


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    folders = sorted(
        path.name for path in (ROOT / PACKAGE).iterdir() if (path / "__init__.py").is_file()
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="mutations to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folders", nargs="+", choices=folders, default=folders, metavar="FOLDER")
    parser.add_argument("--numbers", nargs="+", type=int, help="run these of the drawn ones alone")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--no-check", action="store_true", help="the tests are known to pass")
    parser.add_argument("--list", action="store_true", help="say what is drawn and stop")
    parser.add_argument("--output", type=Path, default=Path("mutations.md"), metavar="TABLE.md")
    return parser.parse_args(arguments)

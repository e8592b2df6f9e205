"""Compares CQ-DINO with a classification-head DINO as the vocabulary grows.

Example:
    python projects_tools/study.py claim --budget 240 --device cpu --output output/claim \\
        --categories 100 400 --seeds 0 1 2 --variants baseline tree --steps 1000
    python projects_tools/study.py claim --output output/claim --no-runs --report docs/claim.md

Emoji are learnt from random weights, icons from a pretrained backbone and text features:
    python projects_tools/study.py claim --regime icons --icons icons --output output/icon_claim \\
        --cost 400=4,10000=16 --seeds 0 1 2 --variants baseline tree

Makes EmojiDet with Zipf frequencies for every vocabulary, trains every variant with the same
backbone, data, seeds and number of steps (or, with --cost, CPU minutes), each run in a process of
its own, and evaluates it. Every run
leaves a JSON file in OUTPUT/runs; one that is there is not done again and a training that was
stopped is resumed. Then the variants are timed in turns and the report is written from all JSON
files that there are. No run is started that would not end within the budget, by the times of those
before it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from quickstart import ROOT
from studies.claim.ceiling import evaluate_with_present
from studies.claim.keys import VARIANTS, RunKey, RunSettings, run_order
from studies.claim.regimes import ALL_EMOJI, REGIMES, DataRequest, Regime, build_data
from studies.claim.report import write_report
from studies.claim.runs import evaluate_with_all, is_done, load_runs, restore, run
from tqdm import tqdm


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=ROOT / "output/claim", help="data, runs, JSON files")
    add(
        "--report",
        type=Path,
        help="to write; its runs are taken over (default OUTPUT/claim.md)",
    )
    add("--budget", type=float, default=240.0, metavar="MINUTES", help="for the runs of this call")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--regime", choices=REGIMES, default="scratch", help="what the runs start from")
    add("--icons", type=Path, metavar="DIR", help="where npm left the icon sets (make_emojidet.py)")
    add(
        "--categories",
        nargs="+",
        type=_categories,
        metavar="N",
        help="numbers of emoji or icons, or 'all' emoji (default: those of --cost, or 100 400 all)",
    )
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=1000, help="of 16 images each (default 1000)")
    length.add_argument(
        "--cost",
        type=_costs,
        default={},
        metavar="N=MINUTES,...",
        help="CPU minutes of a training at N categories, in place of --steps",
    )
    add("--jobs", type=int, default=2, help="runs at a time (on a GPU: 1)")
    add("--train-images", type=int, metavar="N", help="default 4000 of emoji, 16000 of icons")
    add("--val-images", type=int, metavar="N", help="default 1000")
    add("--zipf", type=float, help="exponent of the frequencies (default 1 of emoji, 0.5 of icons)")
    add("--override", nargs="*", default=[], metavar="KEY=VALUE", help="of all configs")
    add("--no-runs", action="store_true", help="only time and report")
    add(
        "--all-at-test",
        action="store_true",
        help="evaluate the runs with a selection once more, with all categories let through",
    )
    add(
        "--perfect-selection",
        action="store_true",
        help="evaluate these runs once more, with all that an image shows among the K",
    )
    add("--no-speed", action="store_true", help="do not time the variants")
    add("--images", type=int, default=100, help="predicted one by one for the timing")
    given = parser.parse_args(arguments)
    regime = REGIMES[given.regime]
    given.categories = given.categories or list(given.cost) or list(regime.sizes)
    for name in ("train_images", "val_images", "zipf"):
        if getattr(given, name) is None:
            setattr(given, name, getattr(regime, name))
    _check(parser, given, regime)
    return given


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace, regime: Regime) -> None:
    """Ends with a line where what is given does not fit together."""
    if not all(1 <= n <= regime.largest for n in given.categories):
        parser.error(f"--categories: 1 to {regime.largest} {regime.noun}, got {given.categories}")
    left_out = [n for n in given.categories if given.cost and n not in given.cost]
    if left_out:
        parser.error(f"--cost: minutes for every vocabulary, none are given for {left_out}")
    if regime.data.icon_sets and given.icons is None and not given.no_runs:
        parser.error(f"--icons: the folder of {', '.join(regime.data.icon_sets)} is needed")


def _categories(text: str) -> int:
    return ALL_EMOJI if text == "all" else int(text)


def _costs(text: str) -> dict[int, float]:
    try:
        pairs = [one.split("=") for one in text.split(",")]
        found = {_categories(n): float(minutes) for n, minutes in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected N=MINUTES,..., got {text!r}") from error
    if min(found.values()) <= 0:
        raise argparse.ArgumentTypeError(f"minutes are above 0, got {text!r}")
    return found


class Budget:
    """Decides whether one more run fits into the time."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._seconds: dict[int, list[float]] = {}
        self._lock = threading.Lock()

    def allows(self, key: RunKey) -> bool:
        """By the median time of the runs of that vocabulary, or else of all so far."""
        with self._lock:
            known = self._seconds.get(key.categories) or sum(self._seconds.values(), [])
            expected = statistics.median(known) if known else 0.0
        return time.monotonic() + expected < self._end

    def add(self, key: RunKey, seconds: float) -> None:
        """Remembers what a run took."""
        with self._lock:
            self._seconds.setdefault(key.categories, []).append(seconds)


def do_runs(
    output: Path,
    keys: Sequence[RunKey],
    settings: RunSettings,
    *,
    jobs: int,
    minutes: float,
    icons: Path | None = None,
) -> list[RunKey]:
    """Does what is missing, in the order given; returns the runs that the budget left out.

    Raises:
        subprocess.CalledProcessError: a training failed; nothing more was started.
        ValueError: there are runs with other settings.
    """
    missing = [key for key in keys if not is_done(output, key, settings)]
    for categories in dict.fromkeys(key.categories for key in missing):
        request = DataRequest(
            categories, settings.train_images, settings.val_images, settings.zipf, icons
        )
        build_data(output, REGIMES[settings.regime], request)
    budget, failed = Budget(minutes), threading.Event()
    bar = tqdm(total=len(missing), desc="runs", unit="run")

    def do(key: RunKey) -> RunKey | None:
        if failed.is_set() or not budget.allows(key):
            return key
        try:
            result = run(output, key, settings)
        except BaseException:
            failed.set()
            raise
        budget.add(key, result["wall_seconds"])
        figures = result["figures"]
        bar.update()
        bar.write(f"{key}: AP {figures['AP']:.2f}, {result['wall_seconds']:.0f} s")
        return None

    with bar, ThreadPoolExecutor(jobs) as pool:
        return [key for key in pool.map(do, missing) if key is not None]


def _with_weights(output: Path) -> list[RunKey]:
    """The finished runs whose trainings are still there; those of a report are not."""
    keys = [RunKey(**one["run"]) for one in load_runs(output)]
    return [k for k in keys if (output / "training" / str(k) / "model_inference.pth").is_file()]


def evaluate_finished_runs(output: Path, evaluate: Callable[[Path, RunKey], None]) -> None:
    """The runs with a selection once more, each as ``evaluate`` does it."""
    keys = [key for key in _with_weights(output) if key.selects]
    for key in tqdm(keys, evaluate.__name__.replace("_", " "), unit="run"):
        evaluate(output, key)


def time_finished_runs(output: Path, device: str, images: int) -> None:
    """Times, for every vocabulary, the first finished run of each variant, in own processes."""
    first: dict[int, dict[str, RunKey]] = {}
    for key in _with_weights(output):
        first.setdefault(key.categories, {}).setdefault(key.variant, key)
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'projects_tools'}{os.pathsep}{ROOT}"}
    if device == "cpu":
        environment["OMP_NUM_THREADS"] = "1"
    for keys in first.values():
        command = [sys.executable, "-m", "studies.claim.speed", str(output), device]
        command += [str(images), *map(str, keys.values())]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)


def main(arguments: list[str] | None = None) -> int:
    """Runs, times and reports; returns the exit code."""
    given = parse_arguments(arguments)
    output = given.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    settings = RunSettings(
        steps=None if given.cost else given.steps,
        device=given.device,
        train_images=given.train_images,
        val_images=given.val_images,
        zipf=given.zipf,
        overrides=tuple(given.override),
        regime=given.regime,
        cost=tuple(sorted(given.cost.items())),
    )
    path = (given.report or output / "claim.md").resolve()
    try:
        published = path.with_suffix("") / "runs.json"
        restored = restore(output, published) if given.report else 0
        if restored:
            print(f"{restored} runs are taken over from {published}")
        if not given.no_runs:
            keys = run_order(given.seeds, given.categories, given.variants)
            left = do_runs(
                output,
                keys,
                settings,
                jobs=given.jobs,
                minutes=given.budget,
                icons=given.icons,
            )
            if left:
                print(f"{len(left)} runs did not fit into the budget: {', '.join(map(str, left))}")
        if given.all_at_test:
            evaluate_finished_runs(output, evaluate_with_all)
        if given.perfect_selection:
            evaluate_finished_runs(output, evaluate_with_present)
        if not given.no_speed:
            time_finished_runs(output, given.device, given.images)
        write_report(output, path)
    except (ValueError, FileExistsError) as error:
        print(f"study claim: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"study claim: {error}; see {output}/training/*/output.log", file=sys.stderr)
        return 1
    print(f"{path}: written from {len(load_runs(output))} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Fine-tunes a detector on few images of each of some sets: AP by the number of shots.

Example:
    python projects_tools/study.py few_shot --weights models/mm_swint/model.pth \\
        --sets odinw13_Aquarium,odinw13_pothole --shots 1,3,5,10 --seeds 3,30,300 \\
        --output output/few_shot

SET is evaluated on; SET_train_5shot_seed3 and so on are trained on (ODinW's come with its
download; draw_few_shot.py draws others). The column 0 is the detector as it is. Every training is
one of train_net.py with the whole list of names; existing ones are not repeated.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from .training_runs import box_figures, keep_table

CONFIG = "configs/grounding_dino/finetune_few_shot.py"
Figures = dict[int, list[float]]  # number of shots -> AP of each seed


def numbers(text: str) -> list[int]:
    """'1,3' -> [1, 3]."""
    return [int(part) for part in text.split(",")]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default=CONFIG, metavar="FILE")
    add("--weights", type=Path, required=True, metavar="FILE", help="of the model before")
    add("--sets", type=lambda text: text.split(","), required=True, metavar="SET,SET,...")
    add("--shots", type=numbers, default=[1, 3, 5, 10], metavar="N,N,...")
    add("--seeds", type=numbers, default=[3, 30, 300], metavar="N,N,...")
    add("--output", type=Path, required=True, metavar="DIR")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_args(arguments)


def average_precision(
    name: str, given: argparse.Namespace, settings: Sequence[str], *options: str
) -> float:
    """AP of a run, which is done if it is not there."""
    weights = f"train.init_checkpoint={given.weights.resolve()}"
    settings = [*settings, weights, *given.overrides]
    return box_figures(given.output / "runs" / name, given.config_file, settings, *options)["AP"]


def figures_of(name: str, given: argparse.Namespace) -> Figures:
    """Of one set, by the number of shots; 0 is the detector as it is."""
    tested = f"dataloader.test.dataset.names={name}"
    trained = f"dataloader.train.dataset.names={name}_train"
    before = [trained, tested]  # an evaluation alone loads no training set
    figures = {0: [average_precision(f"{name}_0shot", given, before, "--eval-only")]}
    for shots in given.shots:
        for seed in given.seeds:
            run = f"{shots}shot_seed{seed}"
            settings = [f"{trained}_{run}", tested, f"train.seed={seed}"]
            found = average_precision(f"{name}_{run}", given, settings)
            print(f"{name}, {shots} shots, seed {seed}: AP {found:.1f}", file=sys.stderr)
            figures.setdefault(shots, []).append(found)
    return figures


def mean_over_sets(figures: Sequence[Figures]) -> Figures:
    """The mean over the sets, seed by seed."""
    return {
        shots: [
            statistics.fmean(column) for column in zip(*(f[shots] for f in figures), strict=True)
        ]
        for shots in figures[0]
    }


def table(figures: dict[str, Figures]) -> str:
    """A row for each set, and one for their mean: AP, and its deviation over the seeds."""
    rows = dict(figures)
    if len(figures) > 1:
        rows[f"mean of {len(figures)}"] = mean_over_sets(list(figures.values()))
    shots = list(next(iter(rows.values())))
    lines = ["| AP with N shots | " + " | ".join(map(str, shots)) + " |"]
    lines.append("|---|" + "---|" * len(shots))
    for name, row in rows.items():
        cells = [
            f"{statistics.fmean(row[n]):.1f}"
            + (f" ± {statistics.stdev(row[n]):.1f}" if len(row[n]) > 1 else "")
            for n in shots
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the table and keeps it as table.md."""
    given = parse_arguments(arguments)
    try:
        figures = {name: figures_of(name, given) for name in given.sets}
        keep_table(table(figures), given.output)
    except (ValueError, OSError) as error:
        print(f"study few_shot: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

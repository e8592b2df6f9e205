"""Fine-tunes a detector by words on few images of novel emoji: what does it keep of the base ones?

Example:
    python projects_tools/study.py finetuning --output output/finetuning \\
        --weights output/open_vocabulary/runs/text-0/model_inference.pth

The weights are those of a `text` run of study.py open_vocabulary. The images show base and novel
emoji; only the novel ones are named and have boxes. Existing runs are not repeated.

before    the weights as they are
full      all weights learn, but for MiniLM, which is frozen from the beginning
wise-ft   weights at 0.25, 0.5 and 0.75 of the way from before to full
backbone  all but the backbone learn
vectors   a vector for each novel name learns, and nothing else
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quickstart import ROOT

from cqdino_d2.conversion.few_shot import few_shot
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet

from .open_vocabulary import (
    COMPOSITION,
    FIGURES,
    TEXT_CONFIG,
    categories_of,
    derive,
    keep_categories,
    table,
)
from .training_runs import box_figures, keep_table, run_logged

VARIANTS = ("full", "backbone", "vectors")
SHARES = (0.0, 0.25, 0.5, 0.75)  # at 1 it is the fine-tuning itself


def build_sets(
    folder: Path, categories: int, train_images: int, val_images: int, shots: int
) -> None:
    """EmojiDet with novel emoji in training, and the few images of it that are trained on."""
    settings = EmojiDetSettings(
        categories=categories,
        train_images=train_images,
        val_images=val_images,
        composition=COMPOSITION,
    )
    whole = folder / "whole" / "emojidet"
    build_emojidet(whole, settings, workers=min(2, os.cpu_count() or 1))
    change = partial(keep_few, shots=shots)
    derive(whole, folder / "few" / "emojidet", change, splits=["train"])


def keep_few(content: dict[str, Any], shots: int) -> None:
    """Keeps the novel categories, and the first images that show each of them often enough.

    Raises:
        ValueError: there are not enough images.
    """
    keep_categories(content, novel=True)
    drawn = few_shot(content, shots, seed=None)
    if drawn.short:
        raise ValueError(
            f"{len(drawn.short)} novel emoji have fewer than {shots} boxes in "
            f"{len(content['images'])} images, {next(iter(drawn.short))!r} the first: build more "
            "(--train-images)"
        )
    content.update(drawn.content)


def overrides_of(variant: str, output: Path, given: argparse.Namespace) -> list[str]:
    """What makes a fine-tuning the variant's."""
    if variant == "full":
        return [f"optimizer.lr={given.lr}"]
    if variant == "backbone":
        return [f"optimizer.lr={given.lr}", "train.frozen=[backbone]"]
    names = [row["name"] for row in categories_of(output, "few") if row["novel"]]
    vectors = (
        "{_target_: cqdino_d2.categories.PromptVectors, "
        f"names: {json.dumps(names, ensure_ascii=False)}, "
        "tokenizer: '${model.categories.tokenizer}', dim: '${model.neck.dim}'}"
    )
    return [
        f"optimizer.lr={given.vectors_lr}",
        f"model.categories.prompt_vectors={vectors}",
        "train.frozen=['.']",
        "train.trained=[categories.prompt_vectors]",
    ]


def common_overrides(given: argparse.Namespace) -> list[str]:
    """Overrides of all trainings and evaluations."""
    root = (given.output / "datasets" / "few").resolve()
    return [
        f"train.datasets_root={root}",
        "dataloader.evaluator.protocols=[v3det]",
        *given.overrides,
    ]


def train(variant: str, seed: int, given: argparse.Namespace) -> tuple[Path, dict[str, float]]:
    """The folder of a fine-tuning, which is run if it is not there, and its figures."""
    folder = given.output / "runs" / f"{variant}-{seed}"
    settings = [
        f"train.seed={seed}",
        f"train.init_checkpoint={given.weights.resolve()}",
        f"train.max_iter={given.steps}",
        *overrides_of(variant, given.output, given),
        *common_overrides(given),
    ]
    return folder, box_figures(folder, TEXT_CONFIG, settings)


def path_of(tuned: Path, seed: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures on the way from the weights before to those of a fine-tuning."""
    folder = (given.output / "runs" / f"path-{seed}").resolve()
    if not (folder / "path.json").is_file():
        command = [sys.executable, str(ROOT / "projects_tools/interpolate_weights.py")]
        command += ["--config-file", TEXT_CONFIG, "--output", str(folder)]
        command += ["--before", str(given.weights.resolve())]
        command += ["--after", str((tuned / "model_inference.pth").resolve())]
        command += ["--shares", ",".join(map(str, SHARES))]
        run_logged([*command, *common_overrides(given)], folder)
    return json.loads((folder / "path.json").read_text(encoding="utf-8"))


def figures_of(seed: int, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The figures of each row of the table."""
    rows: dict[str, dict[str, float]] = {}
    for variant in given.variants:
        folder, figures = train(variant, seed, given)
        if variant == "full":
            steps = path_of(folder, seed, given)
            rows["before"] = steps[0]["results"]["bbox"]
            for step in steps[1:]:
                rows[f"wise-ft {step['share']:g}"] = step["results"]["bbox"]
        rows[variant] = figures
    return {name: {key: row[key] for key in FIGURES} for name, row in rows.items()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR")
    add("--weights", type=Path, required=True, metavar="FILE", help="of the model before")
    add("--categories", type=int, default=400, help="as the model before had (400)")
    add("--train-images", type=int, default=2000, help="of which few are taken")
    add("--val-images", type=int, default=1000)
    add("--shots", type=int, default=5, help="boxes of each novel emoji, at least (5)")
    add("--steps", type=int, default=300)
    add("--lr", type=float, default=4e-4, help="of full and backbone (4e-4)")
    add("--vectors-lr", type=float, default=0.1, help="of vectors (0.1)")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    add("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="override the config")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs what is missing and prints the table."""
    given = parse_arguments(arguments)
    sizes = given.categories, given.train_images, given.val_images
    runs: dict[str, list[dict[str, float]]] = {}
    try:
        build_sets(given.output / "datasets", *sizes, given.shots)
        for seed in given.seeds:
            for name, figures in figures_of(seed, given).items():
                runs.setdefault(name, []).append(figures)
        keep_table(table(runs), given.output)
    except (ValueError, OSError) as error:
        print(f"study finetuning: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

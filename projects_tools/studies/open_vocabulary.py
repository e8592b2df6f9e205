"""Trains detectors by words on base emoji and asks them for novel ones, which no image showed.

Example:
    python projects_tools/run_open_vocabulary.py --output output/open_vocabulary

A quarter of the emoji is novel: in no training image, neither drawn nor named. `text` learns the
names of the others with configs/emojidet/text_prompted.py, `shuffled` learns the same images with
the names dealt out anew, so that words say nothing about looks, and `closed` is the quickstart's
CQ-DINO with fixed categories for as many images. All are asked for all names at once. A run that is
there is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from quickstart import ROOT

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.data.emojidet.compose import CompositionSettings
from cqdino_d2.files import write_atomically

from .claim.verdict import mean_interval

TEXT_CONFIG = "configs/emojidet/text_prompted.py"
CONFIG_OF = {
    "text": TEXT_CONFIG,
    "shuffled": TEXT_CONFIG,
    "closed": "configs/emojidet/quickstart.py",
}
FIGURES = ("AP_base", "AP50_base", "AP_novel", "AP50_novel")


def build_sets(folder: Path, categories: int, train_images: int, val_images: int) -> None:
    """EmojiDet without novel emoji in training, and the same with the names dealt out anew."""
    composition = CompositionSettings(
        image_size=128, object_size=(16, 48), overlap=0.3, hue_shift=True, grey_share=0.1
    )
    settings = EmojiDetSettings(
        categories=categories,
        train_images=train_images,
        val_images=val_images,
        composition=composition,
        hold_out_novel=True,
    )
    built = folder / "named" / "emojidet"
    build_emojidet(built, settings, workers=min(2, os.cpu_count() or 1))
    shuffled = folder / "shuffled" / "emojidet"
    (shuffled / "annotations").mkdir(parents=True, exist_ok=True)
    if not (shuffled / "images").exists():
        (shuffled / "images").symlink_to((built / "images").resolve())
    for source in (built / "annotations").glob("*.json"):
        content = json.loads(source.read_text(encoding="utf-8"))
        if "categories" in content:
            deal_names_anew(content["categories"])
        text = json.dumps(content, ensure_ascii=False).encode()
        write_atomically(
            shuffled / "annotations" / source.name, lambda file, text=text: file.write(text)
        )


def deal_names_anew(categories: list[dict[str, Any]]) -> None:
    """Gives every category the name of another one, drawn among all."""
    names = [row["name"] for row in categories]
    order = np.random.default_rng(7).permutation(len(names))
    for row, place in zip(categories, order.tolist(), strict=True):
        row["name"] = names[place]


def train(output: Path, variant: str, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    """The figures of one run, which is trained if it is not there.

    Raises:
        ValueError: the training failed.
    """
    folder = output / "runs" / f"{variant}-{seed}"
    results = folder / "results.json"
    if not results.is_file():
        data = output / "datasets" / ("shuffled" if variant == "shuffled" else "named")
        command = [sys.executable, "train_net.py", "--config-file", CONFIG_OF[variant]]
        command += [f"train.datasets_root={data.resolve()}", f"train.seed={seed}"]
        command += [f"train.output_dir={folder.resolve()}", *overrides]
        command += ["dataloader.evaluator.protocols=[v3det]"]
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "run.log", "wb") as log:
            done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode:
            raise ValueError(f"the run {variant}-{seed} failed: see {folder / 'run.log'}")
    figures = json.loads(results.read_text(encoding="utf-8"))["bbox"]
    return {name: figures[name] for name in FIGURES}


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """A row for each variant: means, and 95 % intervals where there are several seeds."""
    lines = ["| | seeds | " + " | ".join(FIGURES) + " |", "|---|---|" + "---|" * len(FIGURES)]
    for variant, rows in runs.items():
        cells = []
        for name in FIGURES:
            values = [row[name] for row in rows]
            mean = sum(values) / len(values)
            spread = (mean_interval(values)[1] - mean) if len(values) > 1 else None
            cells.append(f"{mean:.2f}" + ("" if spread is None else f" +- {spread:.2f}"))
        lines.append(f"| {variant} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR")
    add("--categories", type=int, default=400, help="base and novel together (400)")
    add("--train-images", type=int, default=12000)
    add("--val-images", type=int, default=1000)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--variants", nargs="+", default=list(CONFIG_OF), choices=list(CONFIG_OF))
    add("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="of all configs")
    given = parser.parse_args(arguments)
    try:
        build_sets(
            given.output / "datasets", given.categories, given.train_images, given.val_images
        )
        runs: dict[str, list[dict[str, float]]] = {}
        for seed in given.seeds:
            for variant in given.variants:
                figures = train(given.output, variant, seed, given.overrides)
                runs.setdefault(variant, []).append(figures)
                print(f"{variant}-{seed}: {figures}", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"run_open_vocabulary: {error}", file=sys.stderr)
        return 2
    text = table(runs)
    write_atomically(given.output / "table.md", lambda file: file.write(text.encode()))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

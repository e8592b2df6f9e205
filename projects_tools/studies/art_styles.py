"""Trains detectors by words on emoji in one style of art or in several: what helps with novel ones?

Example:
    npm pack --pack-destination icons @iconify-json/noto @iconify-json/fluent-emoji-flat \\
        @iconify-json/openmoji
    python projects_tools/study.py art_styles --icons icons --output output/art_styles

As in study.py open_vocabulary a quarter of the emoji is novel: in no training image, neither drawn
nor named. Each detector is asked for all names at once, on images in Twemoji's style and on images
in a style that no training showed. Existing runs are not repeated.

one      learns from Twemoji's drawings
several  from those of Twemoji, Noto and Fluent, as many images
shuffled the same with the names dealt out anew, so that words say nothing about looks
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.data.emojidet.styles import TWEMOJI

from .open_vocabulary import COMPOSITION, FIGURES, TEXT_CONFIG, deal_names_anew, derive
from .training_runs import box_figures, keep_table, mean_cell

SEVERAL = (TWEMOJI, "noto", "fluent-emoji-flat")
HELD_OUT = "openmoji"
VARIANTS = ("one", "several", "shuffled")
TESTS = {"seen": "Twemoji", "unseen": "a style that was held out"}
Row = dict[str, dict[str, float]]  # of the tests


def build_sets(given: argparse.Namespace) -> None:
    """A folder for each variant, and one of held-out images in the style that none has."""

    def build(name: str, train: Sequence[str], val: str, train_images: int) -> Path:
        settings = EmojiDetSettings(
            categories=given.categories,
            train_images=train_images,
            val_images=given.val_images,
            composition=COMPOSITION,
            hold_out_novel=True,
            train_styles=tuple(train),
            val_styles=(val,),
        )
        folder = given.output / "datasets" / name / "emojidet"
        build_emojidet(folder, settings, icons=given.icons, workers=min(2, os.cpu_count() or 1))
        return folder

    build("one", [TWEMOJI], TWEMOJI, given.train_images)
    several = build("several", SEVERAL, TWEMOJI, given.train_images)
    derive(several, given.output / "datasets/shuffled/emojidet", deal_names_anew)
    unseen = build("unseen", [TWEMOJI], HELD_OUT, 1)  # no one trains on its image
    derive(unseen, given.output / "datasets/unseen-shuffled/emojidet", deal_names_anew)


def figures_of(variant: str, seed: int, given: argparse.Namespace) -> Row:
    """Of one training, on both kinds of images."""
    folder = given.output / "runs" / f"{variant}-{seed}"

    def settings(data: str) -> list[str]:
        root = (given.output / "datasets" / data).resolve()
        return [f"train.datasets_root={root}", f"train.seed={seed}", *given.overrides]

    seen = box_figures(folder, TEXT_CONFIG, settings(variant))
    weights = f"train.init_checkpoint={(folder / 'model_inference.pth').resolve()}"
    unseen = settings("unseen-shuffled" if variant == "shuffled" else "unseen")
    others = box_figures(folder / "unseen", TEXT_CONFIG, [*unseen, weights], "--eval-only")
    return {"seen": seen, "unseen": others}


def table(runs: dict[str, list[Row]]) -> str:
    """A row for each variant and kind of image: means, and 95 % intervals of several seeds."""
    lines = ["| learnt from | tested on | seeds | " + " | ".join(FIGURES) + " |"]
    lines.append("|---|---|---|" + "---|" * len(FIGURES))
    for variant, rows in runs.items():
        for test, title in TESTS.items():
            cells = [mean_cell([row[test][name] for row in rows]) for name in FIGURES]
            lines.append(f"| {variant} | {title} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing, prints the table and keeps it as table.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--icons", type=Path, required=True, metavar="DIR", help="where npm left the icon sets")
    add("--output", type=Path, required=True, metavar="DIR")
    add("--categories", type=int, default=400, help="base and novel together (400)")
    add("--train-images", type=int, default=12000)
    add("--val-images", type=int, default=1000)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    add("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="override the config")
    given = parser.parse_args(arguments)
    runs: dict[str, list[Row]] = {}
    try:
        build_sets(given)
        for seed in given.seeds:
            for variant in given.variants:
                runs.setdefault(variant, []).append(figures_of(variant, seed, given))
        keep_table(table(runs), given.output)
    except (ValueError, OSError) as error:
        print(f"study art_styles: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Trains detectors by words on base emoji and asks them for novel ones, which no image showed.

Example:
    python projects_tools/study.py open_vocabulary --output output/open_vocabulary

A quarter of the emoji is novel: in no training image, neither drawn nor named. All detectors see as
many images and are asked for all names at once. Existing runs are not repeated.

text      learns the names of base emoji with configs/emojidet/text_prompted.py
shuffled  the same with the names dealt out anew, so that words say nothing about looks
closed    the quickstart's CQ-DINO, with fixed categories
extended  the same with the base categories alone, whose embeddings are MiniLM's features of their
          names, centred and scaled, and stay so; the novel ones are added afterwards
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cqdino_d2.data import register_all
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.data.emojidet.compose import CompositionSettings
from cqdino_d2.engine import Evaluation, load_config
from cqdino_d2.engine.config import with_vocabulary
from cqdino_d2.files import write_atomically, write_text
from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
from cqdino_d2.text.encoders import SentenceEncoder
from cqdino_d2.text.prompt_tokenizer import packaged_model
from cqdino_d2.text.prompts import centred, encode_names

from .training_runs import box_figures, keep_table, mean_cell

TEXT_CONFIG = "configs/emojidet/text_prompted.py"
CONFIG_OF = {
    "text": TEXT_CONFIG,
    "shuffled": TEXT_CONFIG,
    "closed": "configs/emojidet/quickstart.py",
    "extended": "configs/emojidet/text_features.py",
}
DATA_OF = {"text": "named", "shuffled": "shuffled", "closed": "named", "extended": "base"}
COMPOSITION = CompositionSettings(
    image_size=128, object_size=(16, 48), overlap=0.3, hue_shift=True, grey_share=0.1
)
FIGURES = ("AP_base", "AP50_base", "AP_novel", "AP50_novel")


def build_sets(folder: Path, categories: int, train_images: int, val_images: int) -> None:
    """EmojiDet without novel emoji in training; the same with names dealt out anew, or without
    the novel categories.
    """
    settings = EmojiDetSettings(
        categories=categories,
        train_images=train_images,
        val_images=val_images,
        composition=COMPOSITION,
        hold_out_novel=True,
    )
    named = folder / "named" / "emojidet"
    build_emojidet(named, settings, workers=min(2, os.cpu_count() or 1))
    for name, change in (("shuffled", deal_names_anew), ("base", keep_categories)):
        derive(named, folder / name / "emojidet", change)


def derive(
    source: Path,
    target: Path,
    change: Callable[[dict[str, Any]], None],
    splits: Sequence[str] = ("train", "val"),
) -> None:
    """The same images with other annotations in some of the splits."""
    (target / "annotations").mkdir(parents=True, exist_ok=True)
    if not (target / "images").exists():
        (target / "images").symlink_to((source / "images").resolve())
    for path in (source / "annotations").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.stem in {f"emojidet_{split}" for split in splits}:
            change(content)
        write_text(target / "annotations" / path.name, json.dumps(content, ensure_ascii=False))


def deal_names_anew(content: dict[str, Any]) -> None:
    """Gives every category the name of another one, drawn among all."""
    categories = content["categories"]
    names = [row["name"] for row in categories]
    order = np.random.default_rng(7).permutation(len(names))
    for row, place in zip(categories, order.tolist(), strict=True):
        row["name"] = names[place]


def keep_categories(content: dict[str, Any], novel: bool = False) -> None:
    """Leaves novel categories and their boxes out, or all but these."""
    content["categories"] = [row for row in content["categories"] if row["novel"] == novel]
    kept = {row["id"] for row in content["categories"]}
    content["annotations"] = [r for r in content["annotations"] if r["category_id"] in kept]
    for image in content["images"]:
        image["neg_category_ids"] = [i for i in image["neg_category_ids"] if i in kept]


def train(output: Path, variant: str, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    """The figures of one run, which is trained if it is not there.

    Raises:
        ValueError: the training failed.
    """
    folder = output / "runs" / f"{variant}-{seed}"
    settings = [
        f"train.datasets_root={(output / 'datasets' / DATA_OF[variant]).resolve()}",
        f"train.seed={seed}",
        "dataloader.evaluator.protocols=[v3det]",
        *overrides,
    ]
    if variant == "extended":
        figures = extended_figures(output, folder, settings)
    else:
        figures = box_figures(folder, CONFIG_OF[variant], settings)
    return {name: figures[name] for name in FIGURES}


def categories_of(output: Path, data: str) -> list[dict[str, Any]]:
    """The categories of one of the sets."""
    path = output / "datasets" / data / "emojidet/annotations/emojidet_val.json"
    return json.loads(path.read_text(encoding="utf-8"))["categories"]


def features_of(names: Sequence[str], base: Sequence[str]) -> Tensor:
    """(V, 384) of MiniLM, with the mean 0 and the mean length 1 over those of the base names."""
    encoder = SentenceEncoder(packaged_model())
    return centred(encode_names(encoder, names), encode_names(encoder, base))


def with_fixed_features(output: Path) -> list[str]:
    """Overrides for categories that are features of their names and stay so."""
    rows = categories_of(output, "base")
    names, ids = [row["name"] for row in rows], [row["id"] for row in rows]
    content = {"embeddings": features_of(names, names), "ids": ids, "categories": names}
    path = output / "datasets/base_features.pth"
    write_atomically(path, lambda file: torch.save(content, file))
    return [f"train.category_embeddings={path.resolve()}"]


def extended_figures(output: Path, folder: Path, settings: Sequence[str]) -> dict[str, float]:
    """The figures of a CQ-DINO of the base categories that the novel ones were added to."""
    results = folder / "extended/results.json"
    if not results.is_file():
        box_figures(folder, CONFIG_OF["extended"], [*settings, *with_fixed_features(output)])
        evaluate_extended(output, folder)
    return json.loads(results.read_text(encoding="utf-8"))["bbox"]


def evaluate_extended(output: Path, folder: Path) -> None:
    """Scores a trained CQ-DINO with the novel categories added to its vocabulary."""
    config, weights = folder / "config.yaml", folder / "model_inference.pth"
    predictor = CategoryPredictor(get_predictor_cfg(config, weights=weights))
    base = [row["name"] for row in categories_of(output, "base")]
    novel = [row for row in categories_of(output, "named") if row["novel"]]
    names, ids = [row["name"] for row in novel], [row["id"] for row in novel]
    extended = predictor.extend_vocabulary(names, features_of(names, base), dataset_ids=ids)
    register_all(output / "datasets/named")
    cfg = load_config(config, [f"train.output_dir={(folder / 'extended').resolve()}"])
    cfg = with_vocabulary(cfg, extended.vocabulary)
    (folder / "extended").mkdir(exist_ok=True)
    Evaluation.of_model(cfg, extended.model).run()


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """A row for each variant: means, and 95 % intervals where there are several seeds."""
    lines = ["| | seeds | " + " | ".join(FIGURES) + " |", "|---|---|" + "---|" * len(FIGURES)]
    for variant, rows in runs.items():
        cells = [mean_cell([row[name] for row in rows]) for name in FIGURES]
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
    add("--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="override all configs")
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
        keep_table(table(runs), given.output)
    except (ValueError, OSError) as error:
        print(f"study open_vocabulary: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where `study.py claim` compares: emoji from random weights, icons from pretrained ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quickstart import ROOT

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.data.emojidet.compose import CompositionSettings

ALL_EMOJI = 1884


@dataclass(frozen=True)
class Regime:
    """What all runs of a comparison start from.

    Attributes:
        noun: what the categories are.
        configs: folder with one config per variant.
        data: of every vocabulary but for its numbers of categories and images and its frequencies.
        sizes: numbers of categories that are compared if nothing else is asked for.
        largest: number of categories that there is artwork for.
        train_images, val_images, zipf: if nothing else is asked for.
        text_preset: of the features that category queries start from; None: random ones.
        overrides: of all its configs.
        page: template of the report, beside this file.
    """

    noun: str
    configs: str
    data: EmojiDetSettings
    sizes: tuple[int, ...]
    largest: int
    train_images: int
    val_images: int
    zipf: float
    text_preset: str | None = None
    overrides: tuple[str, ...] = ()
    page: str = "report.md"


REGIMES = {
    "scratch": Regime(
        noun="emoji",
        configs="configs/emojidet/claim",
        data=EmojiDetSettings(
            composition=CompositionSettings(
                image_size=128, object_size=(16, 48), overlap=0.3, hue_shift=True, grey_share=0.1
            ),
            interior_categories=True,
        ),
        sizes=(100, 400, ALL_EMOJI),
        largest=ALL_EMOJI,
        train_images=4000,
        val_images=1000,
        zipf=1.0,
    ),
    "icons": Regime(
        noun="icons",
        configs="configs/emojidet/icon_claim",
        data=EmojiDetSettings(
            composition=CompositionSettings(
                image_size=128,
                object_size=(20, 44),
                objects=(8, 14),
                overlap=0.3,
                hue_shift=True,
                grey_share=0.1,
            ),
            interior_categories=True,
            icon_sets=("game-icons", "logos", "mdi"),
        ),
        sizes=(400, 1884, 10000),
        largest=14000,
        train_images=16000,
        val_images=1000,
        zipf=0.5,
        text_preset="minilm",
        overrides=("model.backbone.pretrained=packaged",),
        page="report_icons.md",
    ),
}


@dataclass(frozen=True)
class DataRequest:
    """Which data a vocabulary needs.

    Attributes:
        categories: number of emoji or icons; their groups and sub-groups come besides.
        icons: folder with the icon sets' packages; needed by the regime of icons.
    """

    categories: int
    train_images: int
    val_images: int
    zipf: float
    icons: Path | None = field(default=None, compare=False)


def datasets_folder(output: Path, categories: int) -> Path:
    """What `DETECTRON2_DATASETS` is for a vocabulary."""
    return output / "data" / str(categories)


def text_file(output: Path, categories: int) -> Path:
    """The text features of a vocabulary."""
    return datasets_folder(output, categories) / "category_embeddings.pth"


def build_data(output: Path, regime: Regime, wanted: DataRequest) -> None:
    """Builds the EmojiDet of a vocabulary, and its text features; kept if they are there.

    Raises:
        FileExistsError: the data is there with other settings.
        ValueError: no icon sets are given where icons are needed.
        subprocess.CalledProcessError: the text features could not be made.
    """
    settings = replace(
        regime.data,
        categories=wanted.categories,
        train_images=wanted.train_images,
        val_images=wanted.val_images,
        zipf=wanted.zipf,
    )
    folder = datasets_folder(output, wanted.categories)
    workers = min(2, os.cpu_count() or 1)
    build_emojidet(folder / "emojidet", settings, icons=wanted.icons, workers=workers)
    path = text_file(output, wanted.categories)
    if regime.text_preset is None or path.is_file():
        return
    command = [sys.executable, "projects_tools/build_category_embeddings.py"]
    command += ["--dataset", "emojidet_train", "--preset", regime.text_preset]
    environment = os.environ | {"DETECTRON2_DATASETS": str(folder)}
    subprocess.run([*command, "--output", str(path)], check=True, cwd=ROOT, env=environment)


def regime_of(runs: Sequence[dict[str, Any]]) -> Regime:
    """That of the first run; runs that are reported together have one."""
    return REGIMES[runs[0]["settings"].get("regime", "scratch")]

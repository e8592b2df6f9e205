"""What RichSem's parts give to emoji that have boxes in few images: one part after the other.

Example:
    python projects_tools/study.py long_tail --output output/long_tail

Of 100 emoji in a long-tailed EmojiDet about half are rare: they have boxes in at most ten images.
Images of them alone, with a label and no box, are many. Every training has as many steps of as
many images; existing ones are not repeated. Each arm adds to the one before:

box          boxes alone, with a class head that compares queries with MiniLM's features of names
federated    the federated loss
semantic     the semantic branch; its teacher is a small tower that is trained first, on the
             images of emoji alone and the features of their names
image_level  every second batch is of mosaics of these images, in which the emoji's box is all of
             its image that is seen
image_level_masked
             these batches teach no boxes, but for those of the proposals
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cqdino_d2.data import get_test_records, register_all
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.data.emojidet.compose import CompositionSettings
from cqdino_d2.files import write_atomically, write_text
from cqdino_d2.structures import one_line
from cqdino_d2.text.encoders import SentenceEncoder
from cqdino_d2.text.prompt_tokenizer import packaged_model
from cqdino_d2.text.prompts import encode_names

from ..training_runs import all_figures, keep_table
from .report import ARMS, draw, report
from .teacher import TowerTraining, make_teacher, named_right

TAUGHT = ("semantic", "image_level", "image_level_masked")  # arms with a teacher
COMPOSITION = CompositionSettings(
    image_size=96,
    object_size=(16, 44),
    objects=(2, 5),
    overlap=0.3,
    hue_shift=True,
    grey_share=0.1,
)
ALONE = (40, 20, 10)  # images of each rare, common and frequent emoji


@dataclass(frozen=True)
class Study:
    """A folder with everything.

    Attributes:
        output: the folder.
        settings: of the set.
        tower: how the teacher is trained.
        overrides: of all recipes.
    """

    output: Path
    settings: EmojiDetSettings
    tower: TowerTraining
    overrides: Sequence[str] = ()

    @property
    def datasets(self) -> Path:
        """The folder of datasets."""
        return self.output.resolve() / "datasets"

    @property
    def table(self) -> Path:
        """The file of text features."""
        return self.datasets / "names.pth"

    @property
    def teacher(self) -> Path:
        """The file of the teacher's weights."""
        return self.datasets / "teacher.pth"

    def prepare(self, arms: Iterable[str]) -> dict[str, float]:
        """Makes the set, the table and, where an arm wants it, the teacher.

        Returns:
            Percent of the held-out boxes that the teacher names right, by frequency; empty without
            a teacher.
        """
        folder = self.datasets / "emojidet"
        build_emojidet(folder, self.settings, workers=1)
        path = folder / "annotations/emojidet_train.json"
        rows = json.loads(path.read_text(encoding="utf-8"))["categories"]
        if not self.table.is_file():
            make_table(self.table, rows)
        if not set(arms) & set(TAUGHT):
            return {}
        folders = [folder / "images/alone" / row["synset"] for row in rows]
        features = torch.load(self.table, weights_only=True)["embeddings"]
        make_teacher(self.teacher, folders, features, self.tower)
        register_all(self.datasets)
        frequencies = [row["frequency"] for row in rows]
        return named_right(self.teacher, get_test_records("emojidet_val"), features, frequencies)

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """The figures of a run, which is done if it is not there.

        Raises:
            ValueError: it failed.
        """
        settings = [
            f"train.datasets_root={self.datasets}",
            f"train.category_embeddings={self.table}",
            f"train.seed={seed}",
            *self.overrides,
        ]
        if arm in TAUGHT:
            settings.append(f"model.teacher.tower.path={self.teacher}")
        folder = self.output / "runs" / f"{arm}-{seed}"
        found = all_figures(folder, f"configs/emojidet/long_tail/{arm}.py", settings)
        figures = {name: found["lvis"][name] for name in ("AP", "APr", "APc", "APf")}
        print(f"{arm}-{seed}: {figures}", file=sys.stderr)
        figures |= {f"coco_{name}": found["bbox"][name] for name in ("AP", "AP50", "AP75")}
        return {"arm": arm, "seed": seed, **figures}


def make_table(path: Path, categories: Sequence[dict[str, Any]]) -> None:
    """Writes MiniLM's features of the names, as it gives them.

    They are not centred: what all names have in common is what a query that stands for no object
    can be far from.
    """
    names = [row["name"] for row in categories]
    features = encode_names(SentenceEncoder(packaged_model()), names)
    content = {
        "embeddings": features,
        "ids": [row["id"] for row in categories],
        "categories": names,
    }
    write_atomically(path, lambda file: torch.save(content, file))


def listed(text: str) -> list[str]:
    """'box,semantic' -> both."""
    return text.split(",")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="DIR")
    add("--arms", type=listed, default=list(ARMS), metavar="ARM,ARM,...")
    add("--seeds", type=listed, default=["0", "1", "2"], metavar="N,N,...")
    add("--categories", type=int, default=100)
    add("--train-images", type=int, default=2000)
    add("--val-images", type=int, default=600)
    add("--zipf", type=float, default=1.4, help="exponent of the frequencies in training (1.4)")
    add("--teacher-steps", type=int, default=TowerTraining().steps)
    add("--at-once", type=int, default=1, help="trainings at the same time (1)")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override all configs")
    given = parser.parse_args(arguments)
    if unknown := [arm for arm in given.arms if arm not in ARMS]:
        parser.error(f"there is no arm {unknown[0]!r}, only {', '.join(ARMS)}")
    if not all(seed.isdigit() for seed in given.seeds):
        parser.error(f"seeds are whole numbers, got {','.join(given.seeds)}")
    return given


def study_of(given: argparse.Namespace) -> Study:
    """The study that the command line asks for."""
    settings = EmojiDetSettings(
        categories=given.categories,
        train_images=given.train_images,
        val_images=given.val_images,
        composition=COMPOSITION,
        zipf=given.zipf,
        balanced_val=True,
        alone=ALONE,
    )
    return Study(given.output, settings, TowerTraining(given.teacher_steps), given.overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing; writes table, plot and figures."""
    given = parse_arguments(arguments)
    study = study_of(given)
    jobs = [(arm, int(seed)) for seed in given.seeds for arm in given.arms]
    try:
        known = study.prepare(given.arms)
        with ThreadPoolExecutor(given.at_once) as pool:
            runs = list(pool.map(lambda job: study.run(*job), jobs))
        content = {
            "set": asdict(study.settings),
            "teacher": known,
            "overrides": given.overrides,
            "runs": runs,
        }
        write_text(given.output / "runs.json", json.dumps(content, indent=1))
        draw(runs, given.output / "figures.png")
        keep_table(report(runs, known), given.output)
    except (ValueError, OSError) as error:
        print(f"study long_tail: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0

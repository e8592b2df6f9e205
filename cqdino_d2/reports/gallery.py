"""Chooses and draws the images of a report, ground truth next to detections."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..annotations.ids import Id
from ..evaluation import GroundTruth, JudgedDetections, Report
from ..evaluation.error_breakdown import HIT, KINDS, MISS
from ..evaluation.reference import pairwise_iou_of_rows
from .comparison import DrawnBox, ImageFile, draw_pair, save_picture
from .examples import examples_of_kind, images_of_category, score_images, worst_and_best
from .page import TITLES, Figure, Gallery

_IMAGES_OF_A_CATEGORY = 3
_ROLES = {HIT: "hit", MISS: "error"}


@dataclass(frozen=True)
class Painter:
    """Draws images with their boxes into a folder.

    Attributes:
        judged: the detections above the threshold.
        truth: the images and boxes.
        files: by image id.
        folder: is made.
        refused: why images were not opened because their names lead out of the image folder.
    """

    judged: JudgedDetections
    truth: GroundTruth
    files: Mapping[Id, ImageFile]
    folder: Path
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def _roles(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the image's boxes and of its detections, the best last."""
        found = np.flatnonzero(self.judged.images == image)
        order = np.argsort(self.judged.scores[found], kind="stable")
        return np.flatnonzero(self.judged.problem.gt_images == image), found[order]

    def boxes(
        self, image: int, about: Iterable[tuple[int, int]] | None, category: int | None
    ) -> tuple[list[DrawnBox], list[DrawnBox]]:
        """True and detected boxes of an image.

        Args:
            image: its place among the images.
            about: (detection, box) that stand out, with a label; None labels all.
            category: what is of it or about it stands out, if one is named.
        """
        judged, problem, names = self.judged, self.judged.problem, self.truth.names
        hit = judged.hit_boxes()
        all_stand_out = about is None and category is None
        detections = {detection for detection, _ in about or ()}
        boxes = {box for _, box in about or ()}
        truths, found = [], []
        rows, detected = self._roles(image)
        for row in rows.tolist():
            of = int(problem.gt_categories[row])
            chosen = row in boxes or of == category
            role = "found" if hit[row] else "excused" if problem.gt_ignored[row] else "missed"
            shown = all_stand_out or chosen
            box = problem.gt_boxes_xywh_abs[row].tolist()
            truths.append(
                DrawnBox(box, names[of] if shown else "", role if shown else "other", chosen)
            )
        for row in detected.tolist():
            of, box_row = int(judged.categories[row]), int(judged.boxes[row])
            about_category = box_row >= 0 and problem.gt_categories[box_row] == category
            chosen = row in detections or of == category or about_category
            shown = all_stand_out or chosen
            role = _ROLES.get(int(judged.status[row]), "excused") if shown else "other"
            label = f"{names[of]} {100 * judged.scores[row]:.0f}" if shown else ""
            found.append(DrawnBox(judged.boxes_xywh_abs[row].tolist(), label, role, chosen))
        return truths, found

    def paint(
        self,
        name: str,
        image: int,
        about: Iterable[tuple[int, int]] | None = None,
        category: int | None = None,
    ) -> str | None:
        """Draws one image; its path from the page, or None where it cannot be read."""
        from ..files import read_image  # by Detectron2, which a page without images does not need

        image_id = self.truth.image_ids[image : image + 1].tolist()[0]
        file = self.files[image_id]
        try:
            pixels = read_image(file.path(), "RGB", image_id, size=file.size)
        except ValueError as error:
            self._refuse(f"image {image_id} is not shown: {error}")
            return None
        except OSError as error:
            logging.warning("%s", error)
            return None
        drawn = draw_pair(pixels, *self.boxes(image, about, category))
        save_picture(self.folder / f"{name}.jpg", drawn)
        return f"{self.folder.name}/{name}.jpg"

    def _refuse(self, reason: str) -> None:
        if reason not in self.refused:
            logging.warning("%s", reason)
            self.refused.append(reason)


@dataclass(frozen=True)
class Plan:
    """An image to draw."""

    name: str
    image: int
    lines: tuple[str, ...]
    about: tuple[tuple[int, int], ...] | None = None
    category: int | None = None


@dataclass(frozen=True)
class Section:
    """Images to draw under a heading."""

    anchor: str
    title: str
    plans: Sequence[Plan]


def plan_images(judged: JudgedDetections, truth: GroundTruth, count: int) -> Iterator[Section]:
    """The images with the lowest and the highest F1."""
    scores = score_images(judged, len(truth.image_ids))
    for anchor, rows in zip(("worst", "best"), worst_and_best(scores, count), strict=True):
        plans = [
            Plan(
                f"{anchor}-{place:03d}",
                row,
                (
                    f"image {truth.image_ids[row]}: F1 {100 * scores.f1[row]:.0f}",
                    f"{scores.hits[row]} found, {scores.missed[row]} missed, "
                    f"false positives: {scores.false_positives[row]}",
                ),
            )
            for place, row in enumerate(rows)
        ]
        yield Section(anchor, f"{anchor.capitalize()} images", plans)


def plan_errors(judged: JudgedDetections, truth: GroundTruth, count: int) -> Iterator[Section]:
    """The most confident errors of each kind."""

    problem = judged.problem
    for kind in KINDS:
        plans = []
        for place, example in enumerate(examples_of_kind(judged, kind, count)):
            lines = []
            if example.detection >= 0:
                row = example.detection
                name = truth.names[judged.categories[row]]
                lines.append(f"detected: {name} {100 * judged.scores[row]:.0f}")
            if example.box >= 0:
                line = f"true: {truth.names[problem.gt_categories[example.box]]}"
                if example.detection >= 0:
                    pair = judged.boxes_xywh_abs[[row]], problem.gt_boxes_xywh_abs[[example.box]]
                    line += f", IoU {pairwise_iou_of_rows(*pair)[0]:.2f}"
                lines.append(line)
            lines.append(f"image {truth.image_ids[example.image]}")
            about = ((example.detection, example.box),)
            plans.append(Plan(f"{kind}-{place:03d}", example.image, tuple(lines), about))
        yield Section(f"kind-{kind}", TITLES[kind].capitalize(), plans)


def anchor_of(truth: GroundTruth, category: int) -> str:
    """What a category's images are called on the page and on the disk.

    An id that is a text could name another place, so that the category's row takes its part.
    """
    category_id = truth.category_ids[category : category + 1].tolist()[0]
    return f"category-{category_id}" if isinstance(category_id, int) else f"category-row-{category}"


def plan_categories(
    judged: JudgedDetections, report: Report, categories: Sequence[int]
) -> Iterator[Section]:
    """Images with the most errors of each category."""
    truth = report.truth

    for category in categories:
        anchor = anchor_of(truth, category)
        ap = report.per_category.figures["AP"][category]
        boxes = report.per_category.num_boxes[category]
        title = f"Category: {truth.names[category]} (AP {ap:.1f}, {boxes} boxes)"
        plans = [
            Plan(
                f"{anchor}-{place}",
                row,
                (f"image {truth.image_ids[row]}",),
                category=category,
            )
            for place, row in enumerate(images_of_category(judged, category, _IMAGES_OF_A_CATEGORY))
        ]
        yield Section(anchor, title, plans)


def paint_all(painter: Painter, planned: Sequence[Section], images: Path) -> list[Gallery]:
    """Draws all planned images.

    Raises:
        FileNotFoundError: none of the images is there.
    """

    galleries, drawn = [], 0
    total = sum(len(section.plans) for section in planned)
    with tqdm(total=total, desc="drawing", unit="image") as bar:
        for section in planned:
            figures = []
            for plan in section.plans:
                path = painter.paint(plan.name, plan.image, plan.about, plan.category)
                bar.update()
                if path is not None:
                    figures.append(Figure(path, plan.lines))
            drawn += len(figures)
            galleries.append(Gallery(section.anchor, section.title, figures))
    if total and not drawn and not painter.refused:
        file = next(iter(painter.files.values()))
        first = file.root / file.name
        raise FileNotFoundError(
            f"none of {total} images could be read: --images {images} should be the folder that "
            f"the annotations' file names start from (looked for {first})"
        )
    return galleries

"""From files to a report: what is evaluated, chosen and drawn, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..annotations.v3det_tree import read_v3det_tree
from ..evaluation import (
    GroundTruth,
    JudgedDetections,
    Report,
    judge_detections,
    load_ground_truth,
    load_results,
    summarize_errors,
)
from ..evaluation.scoring import make_protocol, read_tree, v3det_tree
from ..files import write_text
from . import examples, gallery
from .comparison import image_files
from .page import Content, Gallery, render
from .plots import draw_all

_FAMILIES, _CHILDREN = 12, 10


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        protocol: one of `cqdino_d2.evaluation.scoring.PROTOCOLS`.
        max_dets: detections that count, None for the protocol's own number.
        threshold: confidence threshold of detections that are drawn and counted as confusions.
        images_per_kind: worst and best images, and images of each kind of error.
        worst_categories: how many are shown in images, three each.
        categories: further ones to show, by name or id.
    """

    protocol: str = "coco"
    max_dets: int | None = None
    threshold: float = 0.3
    images_per_kind: int = 8
    worst_categories: int = 8
    categories: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("images_per_kind", "worst_categories"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")


@dataclass(frozen=True)
class WrittenReport:
    """A report on the disk.

    Attributes:
        page: index.html.
        refused: why images were not opened because their names lead out of the image folder.
    """

    page: Path
    refused: Sequence[str] = ()


@dataclass(frozen=True)
class _Inputs:
    """The files a report is made of, and where it goes."""

    annotations: Path
    results: Path
    output: Path
    images: Path | None
    category_tree: Path | None
    options: ReportOptions = field(default_factory=ReportOptions)


def write_report(
    annotations: str | Path,
    results: str | Path,
    output: str | Path,
    *,
    images: str | Path | None = None,
    category_tree: str | Path | None = None,
    options: ReportOptions | None = None,
) -> WrittenReport:
    """Writes a page with figures, plots and images of what a detector gets right and wrong.

    Args:
        annotations: in COCO's, LVIS' or V3Det's form.
        results: a COCO results file (.json) or its columns (.npz, .parquet).
        output: folder that gets index.html and what it shows.
        images: folder that the annotations' file names start from; None for no images. Files
            outside of it are not opened, whatever the annotations say.
        category_tree: V3Det's JSON, the released table or an edge list; 'v3det' needs it.
        options: what is shown.

    Raises:
        FileNotFoundError: a file, the folder or all of its images are missing.
        ValueError: a file or an option cannot be used; says why.
    """
    given = _Inputs(
        Path(annotations),
        Path(results),
        Path(output),
        None if images is None else Path(images),
        None if category_tree is None else Path(category_tree),
        options or ReportOptions(),
    )
    truth = load_ground_truth(given.annotations)
    hierarchy = read_tree(given.category_tree, truth)
    protocol = make_protocol(given.options.protocol, given.options.max_dets, hierarchy)
    shown = [find_category(text, truth) for text in given.options.categories]
    detections = load_results(given.results, truth)
    judged = judge_detections(protocol, truth, detections)
    report = protocol.evaluate(truth, detections)
    del detections
    content, refused = _gather(given, report, judged, shown)
    page = given.output / "index.html"
    write_text(page, render(content))
    return WrittenReport(page, refused)


def find_category(text: str, truth: GroundTruth) -> int:
    """The place of the category with an id or a name.

    Raises:
        ValueError: there is none, or the name is that of several.
    """
    ids = truth.category_ids.tolist()
    for key in (text, int(text) if text.isdecimal() else None):
        if key is not None and key in ids:
            return ids.index(key)
    found = [row for row, name in enumerate(truth.names) if name == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"several categories are called {text!r}: ids {[ids[r] for r in found]}")
    near = [name for name in truth.names if text.casefold() in name.casefold()][:5]
    raise ValueError(f"no category {text!r} among {len(ids)}" + (f"; there is {near}" * bool(near)))


def node_names(truth: GroundTruth, report: Report, tree_file: Path | None) -> list[str]:
    """What to call each of the N nodes: categories by their name, others as the tree does."""
    names = list(truth.names)
    if report.hierarchy is None or report.hierarchy.node_names is None or tree_file is None:
        return names
    known: dict[str, str] = {}
    if v3det_tree(tree_file):
        known = read_v3det_tree(tree_file).get("id2name") or {}
    virtual = report.hierarchy.node_names[len(names) :]
    return names + [str(known.get(node, node)) for node in virtual]


def _gather(
    given: _Inputs, report: Report, judged: JudgedDetections, shown: Sequence[int]
) -> tuple[Content, Sequence[str]]:
    """All that the page shows, its plots and images drawn; and which images were refused."""
    truth, hierarchy, options = report.truth, report.hierarchy, given.options
    errors = summarize_errors(judged)
    judged = judged.take(judged.scores >= options.threshold)
    confusions = examples.Confusions.of(judged)
    siblings, branches = [], None
    if hierarchy is not None:
        branches = examples.branches_of(hierarchy, report)
        siblings = examples.sibling_groups(
            judged, confusions, hierarchy, groups=_FAMILIES, size=_CHILDREN
        )
    tree = given.category_tree
    plots = draw_all(report, errors, v3det_tree(tree), given.output / "plots")
    galleries, refused = _draw_galleries(given, report, judged, shown)
    anchors = {one.anchor for one in galleries if one.figures}
    places = {gallery.anchor_of(truth, row): row for row in range(len(truth.names))}
    content = Content(
        title=f"{given.results.name} on {given.annotations.name}",
        facts=[*_facts(given, report, judged), *refused],
        report=report,
        errors=errors,
        threshold=options.threshold,
        node_names=node_names(truth, report, tree),
        branches=branches,
        confusions=confusions,
        siblings=siblings,
        plots=[f"{path.parent.name}/{path.name}" for path in plots],
        galleries=galleries,
        pictured={row: anchor for anchor, row in places.items() if anchor in anchors},
    )
    return content, refused


def _facts(given: _Inputs, report: Report, judged: JudgedDetections) -> list[str]:
    """What was evaluated, in words."""
    truth, per = report.truth, report.per_category
    lines = [
        f"{len(truth.image_ids):,} images, {int(per.num_boxes.sum()):,} boxes to find, "
        f"{len(truth.names):,} categories ({int((per.num_boxes > 0).sum()):,} with boxes), "
        f"{int(per.num_detections.sum()):,} detections that count "
        f"({len(judged.scores):,} with a score of at least {given.options.threshold:.2f}).",
        f"Protocol: {report.protocol}.",
    ]
    if report.hierarchy is None:
        lines.append("No category tree was given (--category-tree): all categories stand alone.")
    if given.images is None:
        lines.append("No images were given (--images).")
    return lines


def _draw_galleries(
    given: _Inputs, report: Report, judged: JudgedDetections, shown: Sequence[int]
) -> tuple[list[Gallery], Sequence[str]]:
    """Chooses the images and draws them."""
    if given.images is None:
        return [], ()
    truth, options = report.truth, given.options
    files = image_files(given.annotations, given.images)
    worst = examples.worst_categories(report, options.worst_categories)
    planned = [
        *gallery.plan_images(judged, truth, options.images_per_kind),
        *gallery.plan_errors(judged, truth, options.images_per_kind),
        *gallery.plan_categories(judged, report, list(dict.fromkeys([*shown, *worst]))),
    ]
    painter = gallery.Painter(judged, truth, files, given.output / "pictures")
    return gallery.paint_all(painter, planned, given.images), tuple(painter.refused)

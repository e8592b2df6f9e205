"""The evaluators of COCO, LVIS, V3Det and of texts, and which one a dataset asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ..annotations.grounded_texts import KINDS
from ..structures import Vocabulary
from .column_evaluator import ColumnEvaluator
from .protocols import (
    CocoProtocol,
    EvaluationProtocol,
    LvisFixedProtocol,
    LvisProtocol,
    V3DetProtocol,
)
from .sets_evaluator import SetsEvaluator
from .texts import TextEvaluator


class COCOEvaluator(ColumnEvaluator):
    """COCO box AP; see `ColumnEvaluator`.

    Args:
        max_dets: detections per (image, category) that count.
    """

    def __init__(self, *, dataset_name: str, max_dets: int = 300, **kwargs: Any) -> None:
        protocols = {"bbox": make_protocol("coco", max_dets)}
        super().__init__(dataset_name=dataset_name, protocols=protocols, **kwargs)


class LVISEvaluator(ColumnEvaluator):
    """LVIS box AP; see `ColumnEvaluator`.

    Args:
        max_dets: detections per image that count.
    """

    def __init__(self, *, dataset_name: str, max_dets: int = 300, **kwargs: Any) -> None:
        protocols = {"bbox": make_protocol("lvis", max_dets)}
        super().__init__(dataset_name=dataset_name, protocols=protocols, **kwargs)


class V3DetEvaluator(ColumnEvaluator):
    """V3Det box AP with the vocabulary's tree; see `ColumnEvaluator`.

    Args:
        vocabulary: of the model, with the category tree.
        max_dets: detections per (image, category) that count.
    """

    def __init__(
        self, *, dataset_name: str, vocabulary: Vocabulary, max_dets: int = 300, **kwargs: Any
    ) -> None:
        protocols = {"bbox": make_protocol("v3det", max_dets)}
        super().__init__(
            dataset_name=dataset_name, protocols=protocols, vocabulary=vocabulary, **kwargs
        )


def make_protocol(name: str, max_dets: int) -> EvaluationProtocol:
    """A protocol by its name: 'coco', 'lvis', 'lvis-fixed' or 'v3det'.

    The number of detections of 'lvis-fixed' is always its own.

    Raises:
        ValueError: no such protocol.
    """
    if name == "coco":
        return CocoProtocol(max_dets=(*(n for n in (1, 10) if n < max_dets), max_dets))
    if name == "lvis-fixed":
        return LvisFixedProtocol()
    makers = {"lvis": LvisProtocol, "v3det": V3DetProtocol}
    if name not in makers:
        raise ValueError(f"no protocol {name!r}, expected 'coco', 'lvis', 'lvis-fixed' or 'v3det'")
    return makers[name](max_dets=max_dets)


def build_evaluator(
    *,
    dataset_name: str | Sequence[str],
    vocabulary: Vocabulary | None,
    max_dets: int = 300,
    output_dir: str | None = None,
    protocols: Sequence[str] | None = None,
) -> DatasetEvaluator:
    """The evaluator that the dataset's metadata asks for (``evaluator_type``; 'coco' if absent).

    Args:
        dataset_name: a registered dataset, or several, each with its own categories.
        vocabulary: of the model; of several sets and of sets of texts it is not asked.
        max_dets: detections that count, per image (LVIS) or (image, category).
        output_dir: gets the predictions; None writes none.
        protocols: score the same predictions by several protocols: the first one's figures are
            the task ``bbox``, the others stand under their own names.

    Raises:
        ValueError: an unknown protocol, or the metadata lacks an entry.
    """
    if not isinstance(dataset_name, str):
        return _evaluator_of_sets(dataset_name, output_dir, max_dets, protocols)
    wanted = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if wanted in KINDS:
        if protocols is not None:
            raise ValueError(f"{dataset_name!r} is a set of texts: it has no protocols")
        return TextEvaluator(dataset_name=dataset_name, output_dir=output_dir)
    common = dict(dataset_name=dataset_name, vocabulary=vocabulary, output_dir=output_dir)
    if protocols is None:
        kinds = {"coco": COCOEvaluator, "lvis": LVISEvaluator, "v3det": V3DetEvaluator}
        if wanted not in kinds:
            raise ValueError(f"{dataset_name!r} has evaluator_type {wanted!r}: not {list(kinds)}")
        return kinds[wanted](max_dets=max_dets, **common)
    tasks = ["bbox", *protocols[1:]]
    chosen = {t: make_protocol(p, max_dets) for t, p in zip(tasks, protocols, strict=True)}
    return ColumnEvaluator(protocols=chosen, **common)


def _evaluator_of_sets(
    names: Sequence[str],
    output_dir: str | None,
    max_dets: int,
    protocols: Sequence[str] | None,
) -> SetsEvaluator:
    evaluators = {}
    for name in names:
        folder = None if output_dir is None else str(Path(output_dir, name))
        evaluators[name] = build_evaluator(
            dataset_name=name,
            vocabulary=None,
            max_dets=max_dets,
            output_dir=folder,
            protocols=protocols,
        )
    return SetsEvaluator(evaluators)

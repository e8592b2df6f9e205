"""The evaluator of a training: COCO box AP and category recall."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools.coco import COCO

from ..structures import Vocabulary, write_atomically
from .category_recall import category_recall
from .coco_protocol import coco_box_figures, load_ground_truth
from .detections import Detections

_LOGGER = logging.getLogger(__name__)


class CategoryDetectionEvaluator(DatasetEvaluator):
    """COCO box AP over a data set's annotations, and ARC of the category selection.

    Args:
        dataset_name: a registered data set whose metadata has ``json_file`` and
            ``thing_dataset_id_to_contiguous_id``.
        max_dets: detections per image that count.
        output_dir: gets the predictions as a COCO results file; None writes none.
        vocabulary: what the model's ``pred_classes`` mean; None takes the data set's own categories
            from its metadata. Categories of the data set that it lacks are an error.

    Raises:
        ValueError: the metadata lacks an entry.
    """

    def __init__(
        self,
        *,
        dataset_name: str,
        max_dets: int = 300,
        output_dir: str | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        id_map = "thing_dataset_id_to_contiguous_id"
        for entry in ("json_file",) if vocabulary else ("json_file", id_map):
            if not hasattr(metadata, entry):
                raise ValueError(f"the metadata of data set {dataset_name!r} has no {entry}")
        self._dataset_name = dataset_name
        self._json_file: str = metadata.json_file
        self._vocab_id_of: Mapping[int, int] = (
            vocabulary.vocab_id_of if vocabulary else getattr(metadata, id_map)
        )
        self._max_dets = max_dets
        self._output_dir = output_dir
        self._ground_truth: COCO | None = None
        self.reset()

    @property
    def ground_truth(self) -> COCO:
        """The annotations, read when first needed.

        Raises:
            FileNotFoundError: the annotation file is missing.
            ValueError: it is no annotation file, or has categories that the metadata lacks.
        """
        if self._ground_truth is None:
            ground_truth = load_ground_truth(self._json_file)
            used = {item["category_id"] for item in ground_truth.dataset["annotations"]}
            if unknown := sorted(used - self._vocab_id_of.keys()):
                raise ValueError(
                    f"{self._json_file} has boxes of unknown categories: {unknown[:10]}"
                )
            self._ground_truth = ground_truth
        return self._ground_truth

    def reset(self) -> None:
        """Forgets all predictions."""
        self._detections: list[Detections] = []
        self._selected: dict[int, np.ndarray | None] = {}

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Takes the predictions of one batch.

        Raises:
            ValueError: an image that is not in the annotation file, or for the second time.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            if image_id not in self.ground_truth.imgs:
                raise ValueError(f"image {image_id} is not in {self._json_file}")
            if image_id in self._selected:
                raise ValueError(f"image {image_id} was predicted twice")
            selected = output.get("selected_vocab_ids")
            self._selected[image_id] = None if selected is None else selected.cpu().numpy()
            self._detections.append(Detections.from_instances(image_id, output["instances"]))

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers from all processes and evaluates on the first one.

        Returns:
            ``bbox``: AP, AP50, AP75, APs, APm, APl, AR@N; ``selection`` (if the model reports
            it): ARC, ARC_macro. All in 0..100. Empty on the other processes.

        Raises:
            ValueError: two processes predicted the same image, or none predicted any.
        """
        mine = Detections.concatenate(self._detections)
        gathered = comm.gather((mine, self._selected))
        if not comm.is_main_process():
            return OrderedDict()
        detections = Detections.concatenate([part for part, _ in gathered])
        selected = self._merge([part for _, part in gathered])
        category_ids = np.zeros(max(self._vocab_id_of.values()) + 1, dtype=np.int64)
        for dataset_id, vocab_id in self._vocab_id_of.items():
            category_ids[vocab_id] = dataset_id
        if self._output_dir is not None:
            self._save(detections, category_ids)
        figures = coco_box_figures(self.ground_truth, detections, category_ids, self._max_dets)
        results = OrderedDict(bbox=figures)
        reported = {image: chosen for image, chosen in selected.items() if chosen is not None}
        if reported:
            results["selection"] = category_recall(
                {image: chosen.tolist() for image, chosen in reported.items()},
                self._present_categories(),
            )
        self._log(results)
        return results

    def _merge(
        self, parts: Sequence[Mapping[int, np.ndarray | None]]
    ) -> dict[int, np.ndarray | None]:
        merged = {image: chosen for part in parts for image, chosen in part.items()}
        if len(merged) < sum(map(len, parts)):
            raise ValueError("several processes predicted the same images")
        if not merged:
            raise ValueError(f"no image of {self._dataset_name!r} was predicted")
        total = len(self.ground_truth.imgs)
        if len(merged) < total:
            _LOGGER.warning(
                "Only %d of %d images of %s were predicted; the others count as missed",
                len(merged),
                total,
                self._dataset_name,
            )
        return merged

    def _present_categories(self) -> dict[int, set[int]]:
        present: dict[int, set[int]] = {}
        for annotation in self.ground_truth.dataset["annotations"]:
            vocab_id = self._vocab_id_of[annotation["category_id"]]
            present.setdefault(annotation["image_id"], set()).add(vocab_id)
        return present

    def _save(self, detections: Detections, category_ids: np.ndarray) -> None:
        """Writes the COCO results file, whole or not at all."""
        folder = Path(self._output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        rows = zip(
            detections.image_ids.tolist(),
            category_ids[detections.vocab_ids].tolist(),
            detections.boxes_xywh_abs().round(3).tolist(),
            detections.scores.tolist(),
            strict=True,
        )
        names = ("image_id", "category_id", "bbox", "score")
        path = folder / "coco_instances_results.json"
        text = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
        write_atomically(path, lambda file: file.write(text.encode()))
        _LOGGER.info("Wrote %d detections to %s", len(detections), path)

    def _log(self, results: Mapping[str, Mapping[str, float]]) -> None:
        figures = {name: value for task in results.values() for name, value in task.items()}
        head = " | ".join(f"{name:>9}" for name in figures)
        body = " | ".join(f"{value:9.2f}" for value in figures.values())
        _LOGGER.info("%s:\n%s\n%s", self._dataset_name, head, body)

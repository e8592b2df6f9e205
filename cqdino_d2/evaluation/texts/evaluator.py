"""A Detectron2 evaluator of sets whose images have their own texts."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ...annotations.grounded_texts import GroundedTexts, read_grounded_texts
from ...annotations.ids import as_id, id_array, spelling
from ..columns import Detections, GroundTruth
from ..results_file import save_results_json
from .protocols import TextProtocol, text_protocol

_LOGGER = logging.getLogger(__name__)


class TextEvaluator(DatasetEvaluator):
    """Scores what a text-prompted detector finds for the texts of a dataset.

    Args:
        dataset_name: a registered dataset whose metadata has ``json_file`` and, as
            ``evaluator_type``, the kind of its texts.
        protocol: which figures; None takes those of the kind.
        output_dir: gets the predictions as ``text_results.json``, in COCO's form with the place
            of the phrase as ``category_id``; None writes none.

    Raises:
        ValueError: the metadata lacks an entry, or the kind is unknown.
    """

    def __init__(
        self,
        *,
        dataset_name: str,
        protocol: TextProtocol | None = None,
        output_dir: str | None = None,
    ) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        if metadata.get("json_file") is None:
            raise ValueError(f"the metadata of dataset {dataset_name!r} has no json_file")
        self._dataset_name = dataset_name
        self._json_file: str = metadata.json_file
        self._kind: str = metadata.get("evaluator_type", "")
        self._protocol = protocol or text_protocol(self._kind)
        self._output_dir = output_dir
        self._texts: GroundedTexts | None = None
        self._row_of: dict[str, int] = {}
        self._num_things = np.empty(0, np.int64)
        self.reset()

    @property
    def texts(self) -> GroundedTexts:
        """The annotations, read when first needed.

        Raises:
            FileNotFoundError: the annotation file is missing.
            ValueError: it cannot be understood.
        """
        if self._texts is None:
            texts = read_grounded_texts(self._json_file, self._kind)
            self._row_of = {spelling(one): row for row, one in enumerate(texts.image_ids)}
            self._num_things = texts.num_things()
            self._texts = texts
        return self._texts

    def check(self) -> None:
        """Makes sure, before anything is predicted, that the predictions can be scored.

        Raises:
            FileNotFoundError: the annotation file is missing.
            ValueError: it cannot be understood.
        """
        self._protocol.check(self.texts, self._json_file)

    def reset(self) -> None:
        """Forgets all predictions."""
        self._detections: list[Detections] = []
        self._predicted: set[int] = set()

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Takes the predictions of one batch.

        Raises:
            ValueError: a text that is not in the annotation file or comes for the second time, a
                thing that it does not name, or numbers that are not finite.
        """
        _ = self.texts  # read by now
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            row = self._row_of.get(spelling(as_id(image_id)))
            if row is None:
                raise ValueError(f"image {image_id} is not in {self._json_file}")
            if row in self._predicted:
                raise ValueError(f"image {image_id} was predicted twice")
            self._predicted.add(row)
            self._detections.append(self._columns(row, output["instances"].to("cpu")))

    def _columns(self, row: int, instances: Any) -> Detections:
        boxes = instances.pred_boxes.tensor.float().numpy().copy()
        boxes[:, 2:] -= boxes[:, :2]
        found = Detections(
            images=np.full(len(instances), row, np.int32),
            categories=instances.pred_classes.numpy().astype(np.int32),
            boxes_xywh_abs=boxes,
            scores=instances.scores.float().numpy(),
        )
        where = f"image {self.texts.image_ids[row]}"
        things, num_things = found.categories, int(self._num_things[row])
        if len(found) and not 0 <= things.min() <= things.max() < num_things:
            raise ValueError(
                f"{where}: the detector found things {sorted(set(things.tolist()))[:10]}, its text "
                f"names {num_things}, numbered from 0"
            )
        if not (np.isfinite(boxes).all() and np.isfinite(found.scores).all()):
            raise ValueError(f"{where}: the detector gave boxes or scores that are not finite")
        return found

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers from all processes and evaluates on the first one.

        Returns:
            Task -> figure -> value in 0..100, as the protocol says. Empty on the other processes.

        Raises:
            ValueError: two processes predicted the same text, or none predicted any.
        """
        own = Detections.concatenate([Detections.empty(np.float32), *self._detections])
        shares = comm.gather((own, np.array(sorted(self._predicted), np.int64)))
        if not comm.is_main_process():
            return OrderedDict()
        predicted = self._check_rows(np.concatenate([rows for _, rows in shares]))
        detections = Detections.concatenate([found for found, _ in shares])
        if self._output_dir is not None:
            self._save(detections)
        results = OrderedDict(self._protocol.evaluate(self.texts, detections, predicted))
        for task, figures in results.items():
            shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
            _LOGGER.info("%s, %s: %s", self._dataset_name, task, shown)
        return results

    def _check_rows(self, rows: np.ndarray) -> np.ndarray:
        """(I,) bool, which texts were predicted."""
        predicted = np.zeros(len(self.texts), bool)
        predicted[rows] = True
        if not len(rows):
            raise ValueError(f"no image of {self._dataset_name!r} was predicted")
        if len(rows) > predicted.sum():
            raise ValueError("several processes predicted the same images")
        if not predicted.all():
            _LOGGER.warning(
                "Only %d of %d texts of %s were predicted; the others count as missed",
                len(rows),
                len(predicted),
                self._dataset_name,
            )
        return predicted

    def _save(self, detections: Detections) -> None:
        folder = Path(self._output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_results_json(folder / "text_results.json", detections, _ids_of(self.texts))
        _LOGGER.info("Wrote %d detections to %s", len(detections), folder / "text_results.json")


def _ids_of(texts: GroundedTexts) -> GroundTruth:
    """What a results file calls the texts and their things; without boxes."""
    phrases = np.arange(int(texts.num_things().max(initial=1)), dtype=np.int64)
    none, no_flags = np.empty(0, np.int32), np.empty(0, bool)
    return GroundTruth(
        image_ids=id_array(texts.image_ids),
        category_ids=phrases,
        names=tuple(map(str, phrases.tolist())),
        images=none,
        categories=none,
        boxes_xywh_abs=np.empty((0, 4)),
        areas=np.empty(0),
        crowd=no_flags,
        ignore=no_flags,
        zero_id=no_flags,
    )

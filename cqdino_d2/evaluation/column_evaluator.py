"""A Detectron2 evaluator: predictions become columns, are gathered as columns and scored once."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..annotations.ids import UNKNOWN, Id, as_id, id_array, in_order, rank_in, spelling
from ..structures import RaggedIndex, Vocabulary
from .annotation_file import load_ground_truth
from .category_recall import category_recall
from .columns import Detections, GroundTruth
from .protocols import EvaluationProtocol
from .results_file import save_results_json, save_results_npz
from .vocabulary_order import hierarchy_in_order

_LOGGER = logging.getLogger(__name__)
_ID_MAP = "thing_dataset_id_to_contiguous_id"
_LOGGED = 16  # figures of a task


@dataclass(frozen=True)
class _Share:
    """What one process predicted.

    Attributes:
        detections: as columns.
        images: (I,) int32 the images that were predicted.
        selecting: (S,) int32 those of them with a selection of categories.
        selected: for each of the latter the category numbers.
    """

    detections: Detections
    images: np.ndarray
    selecting: np.ndarray
    selected: RaggedIndex


class ColumnEvaluator(DatasetEvaluator):
    """Scores the same predictions by one or several protocols, and the category selection by ARC.

    Args:
        dataset_name: a registered dataset whose metadata has ``json_file``. Without a vocabulary
            and without ``thing_dataset_id_to_contiguous_id`` (which the metadata of a dataset
            registered here gets once it is read) the categories are numbered by ascending id.
        protocols: task -> protocol; those with a tree get it from the vocabulary.
        output_dir: gets the predictions as ``coco_instances_results.json`` and, as columns,
            ``detections.npz``; None writes none.
        vocabulary: what the model's ``pred_classes`` mean; None takes the dataset's own
            categories from its metadata. Categories with boxes that it lacks are an error.

    Raises:
        ValueError: the metadata lacks an entry, or names its categories by other ids.
    """

    def __init__(
        self,
        *,
        dataset_name: str,
        protocols: Mapping[str, EvaluationProtocol],
        output_dir: str | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        if metadata.get("json_file") is None:
            raise ValueError(f"the metadata of dataset {dataset_name!r} has no json_file")
        names, ids = metadata.get("thing_classes"), metadata.get(_ID_MAP)
        if vocabulary is not None and names and ids:
            names_of = {one: names[vocab_id] for one, vocab_id in ids.items()}
            vocabulary.check_numbering(names_of, metadata.json_file)
        self._dataset_name = dataset_name
        self._json_file: str = metadata.json_file
        self._vocab_id_of: Mapping[Id, int] | None = vocabulary.vocab_id_of if vocabulary else ids
        self._vocabulary = vocabulary
        self._protocols = dict(protocols)
        self._output_dir = output_dir
        self._truth: GroundTruth | None = None
        self._category_of = np.empty(0, np.int32)
        self._row_of: dict[str, int] = {}
        self.reset()

    @property
    def ground_truth(self) -> GroundTruth:
        """The annotations, read when first needed.

        Raises:
            FileNotFoundError: the annotation file is missing.
            ValueError: it is no annotation file, or has boxes of categories that the model's
                vocabulary lacks.
        """
        if self._truth is None:
            truth = load_ground_truth(self._json_file)
            if not len(truth.category_ids) and self._vocabulary is not None:
                truth = _of_vocabulary(truth, self._vocabulary)
            known = self._vocab_id_of
            if known is None:
                known = {one: rank for rank, one in enumerate(truth.category_ids.tolist())}
            spelt = set(map(spelling, known))
            used = truth.category_ids[np.unique(truth.categories)].tolist()
            if unknown := [one for one in used if spelling(one) not in spelt]:
                raise ValueError(
                    f"{self._json_file} has boxes of unknown categories: {unknown[:10]}"
                )
            vocab_ids = np.fromiter(known.values(), np.int64, len(known))
            self._category_of = np.full(vocab_ids.max(initial=-1) + 1, UNKNOWN, np.int32)
            self._category_of[vocab_ids] = rank_in(truth.category_ids, id_array(list(known)))
            self._row_of = {spelling(one): row for row, one in enumerate(truth.image_ids.tolist())}
            self._truth = truth
        return self._truth

    def check(self) -> None:
        """Makes sure, before anything is predicted, that the predictions can be scored.

        A file without annotations can not, but its predictions can be written.

        Raises:
            FileNotFoundError: the annotation file is missing.
            ValueError: see `ground_truth`; or the file lacks what a protocol needs.
        """
        truth = self.ground_truth
        if not truth.annotated:
            _LOGGER.warning(
                "%s has no list 'annotations': predictions will be written, figures left out",
                self._json_file,
            )
            return
        for protocol in self._protocols.values():
            try:
                self._over(protocol).check(truth)
            except ValueError as error:
                raise ValueError(f"{self._json_file}: {error}") from error

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
        _ = self.ground_truth  # read by now
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            image = self._row_of.get(spelling(as_id(image_id)), UNKNOWN)
            if image == UNKNOWN:
                raise ValueError(f"image {image_id} is not in {self._json_file}")
            if image in self._selected:
                raise ValueError(f"image {image_id} was predicted twice")
            selected = output.get("selected_vocab_ids")
            if selected is not None:
                selected = self._category_of[selected.cpu().numpy()]
            self._selected[image] = selected
            self._detections.append(self._columns(image, output["instances"].to("cpu")))

    def _columns(self, image: int, instances: Any) -> Detections:
        boxes = np.zeros((len(instances), 4), np.float32)  # a tagger has none
        if instances.has("pred_boxes"):
            boxes = instances.pred_boxes.tensor.float().numpy().copy()
            boxes[:, 2:] -= boxes[:, :2]
        return Detections(
            images=np.full(len(instances), image, np.int32),
            categories=self._category_of[instances.pred_classes.numpy()],
            boxes_xywh_abs=boxes,
            scores=instances.scores.float().numpy(),
        )

    def _share(self) -> _Share:
        reported = {k: v for k, v in self._selected.items() if v is not None}
        lengths = np.array([len(row) for row in reported.values()], np.int64)
        flat = np.concatenate([np.empty(0, np.int32), *reported.values()])
        return _Share(
            detections=Detections.concatenate([Detections.empty(np.float32), *self._detections]),
            images=np.fromiter(self._selected, np.int32),
            selecting=np.fromiter(reported, np.int32),
            selected=RaggedIndex(np.concatenate([[0], np.cumsum(lengths)]), flat),
        )

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers from all processes and evaluates on the first one.

        Returns:
            For each protocol's task its figures; ``selection`` (if the model reports it): ARC,
            ARC_macro. All in 0..100, nan where nothing was to be found. Empty on the other
            processes.

        Raises:
            ValueError: two processes predicted the same image, or none predicted any.
        """
        shares: list[_Share] = comm.gather(self._share())
        if not comm.is_main_process():
            return OrderedDict()
        self._check_images(shares)
        detections = Detections.concatenate([share.detections for share in shares])
        if self._output_dir is not None:
            self._save(detections)
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        if not self.ground_truth.annotated:
            _LOGGER.warning("%s has no annotations: there are no figures", self._json_file)
            return results
        for task, protocol in self._protocols.items():
            results[task] = self._score(protocol, detections)
        if any(len(share.selecting) for share in shares):
            results["selection"] = self._category_recall(shares)
        self._log(results)
        return results

    def _score(self, protocol: EvaluationProtocol, detections: Detections) -> dict[str, float]:
        figures = self._over(protocol).evaluate(self.ground_truth, detections).figures
        return {name: v if v > -1 else float("nan") for name, v in figures.items()}

    def _over(self, protocol: EvaluationProtocol) -> EvaluationProtocol:
        """The protocol with the vocabulary's tree over the file's categories."""
        if self._vocabulary is None:
            return protocol
        ids = [_as_number(one) for one in self.ground_truth.category_ids.tolist()]
        return replace(protocol, hierarchy=hierarchy_in_order(self._vocabulary, ids))

    def _check_images(self, shares: Sequence[_Share]) -> None:
        images = np.concatenate([share.images for share in shares])
        if len(np.unique(images)) < len(images):
            raise ValueError("several processes predicted the same images")
        if not len(images):
            raise ValueError(f"no image of {self._dataset_name!r} was predicted")
        total = len(self.ground_truth.image_ids)
        if len(images) < total:
            _LOGGER.warning(
                "Only %d of %d images of %s were predicted; the others count as missed",
                len(images),
                total,
                self._dataset_name,
            )

    def _category_recall(self, shares: Sequence[_Share]) -> dict[str, float]:
        """ARC; crowd boxes do not count."""
        truth = self.ground_truth
        present: dict[int, set[int]] = {}
        wanted = ~truth.crowd
        pairs = zip(truth.images[wanted].tolist(), truth.categories[wanted].tolist(), strict=True)
        for image, category in pairs:
            present.setdefault(image, set()).add(category)
        selected = {
            image: share.selected[row].tolist()
            for share in shares
            for row, image in enumerate(share.selecting.tolist())
        }
        return category_recall(selected, present)

    def _save(self, detections: Detections) -> None:
        folder = Path(self._output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        known = detections.take(detections.categories != UNKNOWN)
        save_results_json(folder / "coco_instances_results.json", known, self.ground_truth)
        save_results_npz(folder / "detections.npz", known, self.ground_truth)
        _LOGGER.info("Wrote %d detections to %s (.json, .npz)", len(known), folder)

    def _log(self, results: Mapping[str, Mapping[str, float]]) -> None:
        for task, figures in results.items():
            shown = list(figures.items())[:_LOGGED]
            head = " | ".join(f"{name:>9}" for name, _ in shown)
            body = " | ".join(f"{value:9.2f}" for _, value in shown)
            _LOGGER.info("%s, %s:\n%s\n%s", self._dataset_name, task, head, body)


def _as_number(one: Id) -> Id:
    """A category id as a vocabulary has it."""
    return int(one) if spelling(one).isdecimal() else one


def _of_vocabulary(truth: GroundTruth, vocabulary: Vocabulary) -> GroundTruth:
    """A list of images with the categories of a vocabulary."""
    order = in_order(vocabulary.dataset_ids)
    return replace(
        truth,
        category_ids=id_array([vocabulary.dataset_ids[one] for one in order]),
        names=tuple(vocabulary.names[one] for one in order),
    )

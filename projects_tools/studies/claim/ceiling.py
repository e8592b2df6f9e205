"""What detectors of `study.py claim` would reach with a perfect selection.

Their K hold every category that is present in an image, and for the rest those of the selection.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.evaluation import inference_on_dataset
from quickstart import write_metrics
from studies.claim.keys import RunKey
from studies.claim.regimes import datasets_folder
from studies.claim.speed import load_model
from torch import Tensor, nn

from cqdino_d2.data import register_all
from cqdino_d2.structures import ImageTargets


class WithPresentCategories(nn.Module):
    """A detector whose selection is told which categories an image shows.

    Args:
        model: a `CQDINO` with an image-guided selection.
        present: image id -> vocabulary ids.
    """

    def __init__(self, model: nn.Module, present: dict[Any, list[int]]) -> None:
        super().__init__()
        self.model, self.present = model, present
        self._targets: list[ImageTargets] = []
        model.selection.force_targets = "always"
        model.selection.register_forward_pre_hook(self._tell)

    def forward(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predicts as the detector does."""
        device = next(self.model.parameters()).device
        ids = (self.present.get(item["image_id"], []) for item in batch)
        tensors = (torch.tensor(one, dtype=torch.int64, device=device) for one in ids)
        self._targets = [ImageTargets(_no_boxes(one), one, (1, 1)) for one in tensors]
        return self.model(batch)

    def _tell(self, _: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        image_map, queries, _, request = given
        return image_map, queries, self._targets, request


def _no_boxes(vocab_ids: Tensor) -> Tensor:
    return vocab_ids.new_zeros(len(vocab_ids), 4, dtype=torch.float32)


def evaluate_with_present(output: Path, key: RunKey) -> None:
    """Evaluates a finished run of a selecting variant with a perfect selection, on the CPU.

    Writes ``perfect_selection/KEY.json``, if it is not there.
    """
    path = output / "perfect_selection" / f"{key}.json"
    if path.is_file():
        return
    register_all(datasets_folder(output, key.categories))
    model, cfg = load_model(output, key, "cpu")
    present = {
        record["image_id"]: sorted({one["category_id"] for one in record["annotations"]})
        for record in DatasetCatalog.get(cfg.dataloader.test.dataset.names)
    }
    with tempfile.TemporaryDirectory() as folder:
        cfg.dataloader.evaluator.output_dir = folder
        results = inference_on_dataset(
            WithPresentCategories(model, present),
            instantiate(cfg.dataloader.test),
            instantiate(cfg.dataloader.evaluator),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = results["bbox"] | {"AP_lvis": results["lvis"]["AP"]} | results["selection"]
    write_metrics(path, {"run": asdict(key), "figures": figures})


def load_with_present(output: Path) -> list[dict[str, Any]]:
    """What `evaluate_with_present` wrote."""
    files = sorted((output / "perfect_selection").glob("*.json"))
    return [json.loads(path.read_text()) for path in files]

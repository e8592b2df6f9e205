"""What a job predicts, and whether a folder holds the results of the same job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import write_text
from ..prediction.loading import AnyPredictor, Question, detector_cfg, load_predictor

_FORMAT = "cqdino_d2.batch_predictions.v1"
_BLOCK = 1 << 20  # bytes
_DIGITS = 16  # of a digest
_FREE = ("device", "batch_size")  # may differ when a job is resumed


@dataclass(frozen=True)
class JobSettings:
    """What a job predicts.

    Attributes:
        config_file: of the model.
        weights: of the model.
        question: what is looked for.
        threshold: confidence threshold, 0..1.
        overrides: of the config.
        part_size: images in a file of results.
        batch_size: images that go through the model at once.
        device: of the model; None: a GPU where there is one.

    Raises:
        ValueError: a number out of range.
    """

    config_file: str
    weights: str
    question: Question = Question()
    threshold: float = 0.3
    overrides: tuple[str, ...] = ()
    part_size: int = 1000
    batch_size: int = 8
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("part_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        shares = {"threshold": self.threshold, "nms_threshold": self.question.nms_threshold}
        for name, value in shares.items():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}")

    def load(self) -> AnyPredictor:
        """The predictor, with its question.

        Raises:
            ValueError, OSError: see `load_predictor` and `Question.put_to`.
        """
        files = (self.config_file, self.weights)
        predictor = load_predictor(*files, device=self.device, overrides=self.overrides)
        return self.question.put_to(predictor)

    def check_weights(self) -> None:
        """Makes sure that `load` can load them, for a process that will not do so itself.

        Raises:
            ValueError, OSError: see `get_predictor_cfg`.
        """
        detector_cfg(self.config_file, self.weights, overrides=self.overrides)

    def record(self) -> dict[str, Any]:
        """What the results depend on: the model by what its config says, weights by their content.

        Of the weights the file's bytes are read, no tensors.

        Raises:
            ValueError, OSError: a config or weights that are not there, or no detector's.
        """
        settings = {key: value for key, value in asdict(self).items() if key not in _FREE}
        options = {"overrides": self.overrides, "check_weights": False}
        cfg = detector_cfg(self.config_file, self.weights, **options)
        cfg.MODEL.WEIGHTS = cfg.MODEL.DEVICE = ""
        model = hashlib.sha256(cfg.dump().encode()).hexdigest()
        settings["config_file"] = f"{Path(self.config_file).name} {model[:_DIGITS]}"
        settings["weights"] = f"{Path(self.weights).name} {_digest(Path(self.weights))}"
        return {"format": _FORMAT, **json.loads(json.dumps(settings))}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes what `JobSettings.record` gave."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False))


def compare_record(path: Path, record: Mapping[str, Any]) -> None:
    """Makes sure that a folder's record, if there is one, is that of the same job.

    Raises:
        ValueError: the folder holds the results of another job; what differs is named.
    """
    if not path.is_file():
        return
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no record of a job: {error}") from error
    differing = [
        f"{key} {there.get(key)!r} there, {value!r} now"
        for key, value in record.items()
        if there.get(key) != value
    ]
    if differing:
        raise ValueError(
            f"{path.parent} holds results of another job ({'; '.join(differing)}): choose "
            "another folder"
        )


def _digest(path: Path) -> str:
    """The first digits of a file's SHA-256."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()[:_DIGITS]

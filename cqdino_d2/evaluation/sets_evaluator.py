"""Several datasets in one evaluation: each by its own evaluator, and the mean over them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

_LOGGER = logging.getLogger(__name__)
_BOXES = "bbox"
_SHOWN = ("AP", "AP50", "AP75")


class SetsEvaluator(DatasetEvaluator):
    """Hands the predictions of each dataset to its own evaluator.

    A set's figures are the task of its name, or ``NAME.TASK`` where its evaluator has several
    tasks. Where all are sets of boxes the task ``mean`` has their plain mean ``AP``, AP50 and AP75
    and, as ``sets``, over how many it is: sets of which nothing was predicted (their files are
    missing) do not count, nor do those without a figure.

    Args:
        evaluators: by the name that records carry as 'set_name'.

    Raises:
        ValueError: no set.
    """

    def __init__(self, evaluators: Mapping[str, DatasetEvaluator]) -> None:
        if not evaluators:
            raise ValueError("no dataset is named")
        self._evaluators = dict(evaluators)
        self._predicted: set[str] = set()

    def check(self) -> None:
        """Makes sure that the sets whose files are there can be scored.

        Raises:
            FileNotFoundError: no set is there.
            ValueError: as the evaluators' own checks.
        """
        missing = []
        for name, evaluator in self._evaluators.items():
            try:
                evaluator.check()
            except FileNotFoundError as error:
                missing.append(f"{name!r}: {error}")
        if len(missing) == len(self._evaluators):
            raise FileNotFoundError(
                f"none of the {len(missing)} datasets is there; of {missing[0]}"
            )

    def reset(self) -> None:
        """Forgets all predictions."""
        self._predicted = set()
        for evaluator in self._evaluators.values():
            evaluator.reset()

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Takes the predictions of one batch, whose images may be of several sets.

        Raises:
            ValueError: an image of another set; see the evaluators' own.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            name = sample.get("set_name")
            if name not in self._evaluators:
                raise ValueError(
                    f"image {sample.get('image_id')} is of the set {name!r}, expected one of "
                    f"{', '.join(self._evaluators)}"
                )
            self._predicted.add(name)
            self._evaluators[name].process([sample], [output])

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers from all processes and evaluates on the first one.

        Returns:
            Task -> figure -> value, see the class. Empty on the other processes.

        Raises:
            ValueError: no image of any set was predicted; see the evaluators' own.
        """
        predicted = set().union(*comm.all_gather(self._predicted))
        found: dict[str, Mapping[str, dict[str, float]]] = {}
        for name, evaluator in self._evaluators.items():  # in the same order in all processes
            if name in predicted:
                found[name] = evaluator.evaluate()
        if not comm.is_main_process():
            return OrderedDict()
        if not found:
            raise ValueError(f"no image of the {len(self._evaluators)} datasets was predicted")
        absent = [name for name in self._evaluators if name not in found]
        if absent:
            _LOGGER.warning(
                "%d of %d datasets were not predicted and are in no mean: %s",
                len(absent),
                len(self._evaluators),
                ", ".join(absent),
            )
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        for name, tasks in found.items():
            for task, figures in tasks.items():
                results[name if len(tasks) == 1 else f"{name}.{task}"] = figures
        if all(_BOXES in tasks for tasks in found.values()):
            results["mean"] = _mean({name: tasks[_BOXES] for name, tasks in found.items()})
        return results


def _mean(figures_of: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The plain mean over sets that have figures; all are logged as a table."""
    rows = {name: [figures[key] for key in _SHOWN] for name, figures in figures_of.items()}
    measured = {name: row for name, row in rows.items() if not np.isnan(row).any()}
    if unmeasured := [name for name in rows if name not in measured]:
        _LOGGER.warning("%s have no boxes and are in no mean", ", ".join(unmeasured))
    means = np.mean([*measured.values()], axis=0) if measured else np.full(len(_SHOWN), np.nan)
    width = max(map(len, rows))
    lines = [
        f"{name:<{width}} " + " ".join(f"{value:7.2f}" for value in row)
        for name, row in [*rows.items(), ("mean", means)]
    ]
    head = " " * width + " " + " ".join(f"{key:>7}" for key in _SHOWN)
    _LOGGER.info("%d datasets:\n%s", len(measured), "\n".join([head, *lines]))
    return {
        **dict(zip(_SHOWN, map(float, means), strict=True)),
        "sets": float(len(measured)),
    }

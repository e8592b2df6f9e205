"""What tells the runs of `study.py claim` from each other, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

VARIANTS = {  # name of the config -> what it is
    "baseline": "DINO, classification head",
    "no_selection": "CQ-DINO, all V categories",
    "selection": "+ selection, no relation",
    "self_attention": "+ selection, self-attention",
    "tree": "+ selection, category tree",
    "image_guided": "+ image-guided selection, category tree",
}


@dataclass(frozen=True, order=True)
class RunKey:
    """What tells one run from the others of an experiment.

    Attributes:
        seed: of weights, data order and noise.
        categories: number of emoji or icons; the vocabulary has their groups besides.
        variant: a key of `VARIANTS`.
    """

    seed: int
    categories: int
    variant: str

    def __str__(self) -> str:
        return f"{self.categories}-{self.variant}-{self.seed}"

    @property
    def selects(self) -> bool:
        """Whether the variant has an image-guided selection."""
        return self.variant not in ("baseline", "no_selection")

    @classmethod
    def parse(cls, text: str) -> RunKey:
        """The inverse of ``str``."""
        categories, variant, seed = text.split("-")
        return cls(int(seed), int(categories), variant)


@dataclass(frozen=True)
class RunSettings:
    """What all runs of an experiment share.

    Attributes:
        steps: of the training; None with a cost.
        device: "cpu" or "cuda".
        train_images, val_images: size of each dataset.
        zipf: exponent of the categories' frequencies.
        overrides: of the configs.
        regime: a key of `REGIMES`.
        cost: CPU minutes of each vocabulary's trainings, (categories, minutes); every variant takes
            the steps that fit.
    """

    steps: int | None
    device: str
    train_images: int = 4000
    val_images: int = 1000
    zipf: float = 1.0
    overrides: tuple[str, ...] = ()
    regime: str = "scratch"
    cost: tuple[tuple[int, float], ...] = ()

    def of(self, categories: int) -> RunSettings:
        """Those that concern the runs of one vocabulary."""
        return replace(self, cost=tuple(pair for pair in self.cost if pair[0] == categories))


Runs = Sequence[dict[str, Any]]  # JSON files of runs


def select(runs: Runs, **wanted: Any) -> list[dict[str, Any]]:
    """The runs with these keys."""
    return [one for one in runs if all(one["run"][k] == v for k, v in wanted.items())]


def vocabularies(runs: Runs) -> list[int]:
    """Numbers of categories, ascending."""
    return sorted({one["run"]["categories"] for one in runs})


def steps_done(run: dict[str, Any]) -> int:
    """Steps of a finished run, from its JSON file."""
    return run.get("steps") or run["settings"]["steps"]


def run_order(
    seeds: Sequence[int], categories: Sequence[int], variants: Sequence[str]
) -> list[RunKey]:
    """Seed by seed, so that a stop leaves complete comparisons."""
    return [RunKey(s, c, v) for s in seeds for c in categories for v in variants]


def num_selected(categories: int) -> int:
    """K: the paper's 100, or the quickstart's 32 for a vocabulary of the quickstart's size."""
    return max(32, min(100, categories // 4))

"""Whether what the paper claims is seen in the runs of `study.py claim`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student
from studies.claim.keys import VARIANTS, Runs, select, steps_done
from studies.claim.regimes import regime_of

_SELECTING, _HEAD = "tree", "baseline"
_CURVES = {
    "gradient/positive_to_negative": "Positive to negative gradient",
    "gradient/hard_share": "Hard share of the negative gradient",
}
_NO_CURVE: dict[str, list[float]] = {"steps": [], "values": []}
_QUESTIONS = {
    (_SELECTING, _HEAD, "APr"): "On rare categories the full method is {} than the head{}.",
    ("selection", "no_selection", "AP"): "With selection CQ-DINO is {} than without{}.",
    ("no_selection", _HEAD, "AP"): "All V category queries are {} than the head{}.",
    (_SELECTING, "selection", "AP"): "With the tree selection is {} than without a relation{}.",
    (_SELECTING, "self_attention", "AP"): "The tree is {} than self-attention{}.",
}


@dataclass(frozen=True)
class Comparison:
    """Differences of a figure between two variants, seed by seed.

    Attributes:
        categories: number of emoji or icons.
        first, second: variants; the differences are first minus second.
        figure: e.g. "AP".
        differences: of the seeds that both have.
    """

    categories: int
    first: str
    second: str
    figure: str
    differences: tuple[float, ...]

    @property
    def title(self) -> str:
        """What is compared, in words."""
        return f"{VARIANTS[self.first]} − {VARIANTS[self.second]}"

    @property
    def mean(self) -> float:
        """Of the differences."""
        return statistics.fmean(self.differences)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean; infinite with fewer than two seeds."""
        return mean_interval(self.differences)

    @property
    def verdict(self) -> str:
        """Whether the first is better, worse or not clearly different."""
        low, high = self.interval
        if low > 0:
            return "better"
        return "worse" if high < 0 else "not clearly different"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of a mean; infinite with fewer than two values."""
    count = len(values)
    if count < 2:
        return -math.inf, math.inf
    reach = student.ppf(0.975, count - 1) * statistics.stdev(values) / math.sqrt(count)
    mean = statistics.fmean(values)
    return mean - reach, mean + reach


def by_seed(runs: Runs, categories: int, variant: str, figure: str) -> dict[int, float]:
    """Seed -> figure, where it is known."""
    return {
        one["run"]["seed"]: one["figures"][figure]
        for one in select(runs, categories=categories, variant=variant)
        if one["figures"].get(figure) is not None
    }


def compare(runs: Runs, categories: int, first: str, second: str, figure: str) -> Comparison:
    """Pairs the runs of two variants by their seed."""
    a = by_seed(runs, categories, first, figure)
    b = by_seed(runs, categories, second, figure)
    differences = tuple(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))
    return Comparison(categories, first, second, figure, differences)


def judge(
    runs: Runs,
    comparisons: Sequence[Comparison],
    perfect: Runs = (),
) -> list[str]:
    """The findings as sentences, the claim itself first.

    Args:
        runs: all of a report.
        comparisons: of their figures.
        perfect: evaluations of some with a perfect selection.
    """
    noun = regime_of(runs).noun
    found = {(c.first, c.second, c.figure, c.categories): c for c in comparisons}
    main = sorted(
        (c for c in comparisons if (c.first, c.second, c.figure) == (_SELECTING, _HEAD, "AP")),
        key=lambda c: c.categories,
    )
    if not main:
        return ["**The claim was not tested**: no seed has both the head and the full method."]
    lines = [_main_sentence(main, noun)]
    if len(main) > 1:
        lines.append(_growth_sentence(runs, main[0].categories, main[-1].categories))
    for key, sentence in _QUESTIONS.items():
        for c in (found[k] for k in sorted(found, key=lambda k: k[3]) if k[:3] == key):
            where = f" at {c.categories} {noun}: {_numbers(c)}"
            lines.append(
                "* " + sentence.format(c.verdict, where).replace("different than", "different from")
            )
    sizes = [c.categories for c in main]
    lines += _cost_sentences(runs, sizes)
    lines += _recall_sentences(runs, sizes)
    lines += _ceiling_sentences(perfect, sizes, noun)
    return lines + _gradient_sentences(runs, sizes)


def _count(values: Sequence[float]) -> str:
    return f"{len(values)} seed{'s' if len(values) > 1 else ''}"


def _numbers(c: Comparison) -> str:
    low, high = c.interval
    text = f"{c.mean:+.1f} {c.figure}"
    count = _count(c.differences)
    return (
        f"{text} ({count})" if math.isinf(low) else f"{text} ({low:+.1f} to {high:+.1f}, {count})"
    )


def _main_sentence(main: Sequence[Comparison], noun: str) -> str:
    """The claim, by the largest vocabulary with at least two seeds."""
    last = max(main, key=lambda c: (len(c.differences) > 1, c.categories))
    words = {
        "better": "**The claim holds here**",
        "worse": "**The claim does not hold here: the opposite is seen**",
        "not clearly different": "**The claim is not confirmed here**",
    }
    details = "; ".join(f"{c.categories} {noun}: {c.verdict}, {_numbers(c)}" for c in main)
    if len(last.differences) < 2:
        return f"**One seed decides nothing.** {details}."
    return (
        f"{words[last.verdict]}, by the full method (selection and tree) against the "
        f"classification head at {last.categories} {noun}{_tendency(last)}. {details}."
    )


def _tendency(c: Comparison) -> str:
    """Which way all seeds point where that is not enough for a verdict."""
    if c.verdict != "not clearly different":
        return ""
    if all(x < 0 for x in c.differences):
        return ": every seed points the other way, but they differ too much among themselves"
    if all(x > 0 for x in c.differences):
        return ": every seed points its way, but they differ too much among themselves"
    return ": the seeds point both ways"


def _growth_sentence(runs: Runs, small: int, large: int) -> str:
    """Whether the advantage grows with the vocabulary."""
    gaps, noun = {}, regime_of(runs).noun
    for n in (small, large):
        a, b = (by_seed(runs, n, variant, "AP") for variant in (_SELECTING, _HEAD))
        gaps[n] = {seed: a[seed] - b[seed] for seed in a.keys() & b.keys()}
    changes = [gaps[large][seed] - gaps[small][seed] for seed in gaps[small].keys() & gaps[large]]
    if not changes:
        return f"* No seed has both {small} and {large} {noun}."
    low, high = mean_interval(changes)
    verdict = "grows" if low > 0 else "shrinks" if high < 0 else "does not clearly change"
    interval = "" if math.isinf(low) else f" ({low:+.1f} to {high:+.1f})"
    return (
        f"* The full method's lead over the head {verdict} from {small} to {large} {noun}: "
        f"{statistics.fmean(changes):+.1f} AP{interval}, {_count(changes)}."
    )


def _recall_sentences(runs: Runs, vocabularies: Sequence[int]) -> list[str]:
    """How much the full method's selection lets through."""
    lines, noun = [], regime_of(runs).noun
    for n in vocabularies:
        shares = [by_seed(runs, n, _SELECTING, name).values() for name in ("ARC", "ARC_macro")]
        if all(shares):
            images, categories = map(statistics.fmean, shares)
            lines.append(
                f"* At {n} {noun} the full method's selection lets {images:.0f} % of an image's "
                f"categories through, {categories:.0f} % as a mean over the categories; the others "
                "cannot be detected."
            )
    return lines


def _cost_sentences(runs: Runs, vocabularies: Sequence[int]) -> list[str]:
    """What the runs really took where the cost is what they should share."""
    if not runs[0]["settings"].get("cost"):
        return []
    lines, noun = [], regime_of(runs).noun
    for n in vocabularies:
        head, full = (
            statistics.fmean(
                one["cpu_seconds"] for one in select(runs, categories=n, variant=variant)
            )
            for variant in (_HEAD, _SELECTING)
        )
        equal = max(head, full) <= 1.1 * min(head, full)
        unequal = "" if equal else ": not the same cost, as was wanted"
        lines.append(
            f"* At {n} {noun} a run took {head:.0f} CPU seconds with the head and {full:.0f} with "
            f"the full method, evaluation included{unequal}."
        )
    return lines


def _ceiling_sentences(perfect: Runs, vocabularies: Sequence[int], noun: str) -> list[str]:
    """What the full method reaches where the selection misses nothing."""
    reached = {n: list(by_seed(perfect, n, _SELECTING, "AP").values()) for n in vocabularies}
    return [
        f"* With every category that an image shows among its K the full method reaches "
        f"{statistics.fmean(values):.1f} AP at {n} {noun}."
        for n, values in reached.items()
        if values
    ]


def _gradient_sentences(runs: Runs, vocabularies: Sequence[int]) -> list[str]:
    """The gradients' shares with the head and with the full method."""
    lines, noun = [], regime_of(runs).noun
    for n in vocabularies:
        for curve, title in _CURVES.items():
            head, full = (
                _mean_of_curve(runs, n, variant, curve) for variant in (_HEAD, _SELECTING)
            )
            if head and full:
                times = f" ({full / head:.2f} times)" if head >= 0.01 else ""
                lines.append(
                    f"* {title} at {n} {noun}: {head:.2f} with the head, {full:.2f} with the full "
                    f"method{times}."
                )
    return lines


def _mean_of_curve(runs: Runs, categories: int, variant: str, curve: str) -> float | None:
    """Over the runs and their steps from the second tenth on."""
    values = [
        value
        for one in select(runs, categories=categories, variant=variant)
        for step, value in zip(*one["curves"].get(curve, _NO_CURVE).values(), strict=True)
        if step >= 0.1 * steps_done(one)
    ]
    return statistics.fmean(values) if values else None

"""The report of `study.py claim`: tables, plots and whether the paper's claim holds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from studies.claim.ceiling import load_with_present
from studies.claim.keys import (
    VARIANTS,
    RunKey,
    Runs,
    num_selected,
    select,
    steps_done,
    vocabularies,
)
from studies.claim.plots import draw_all
from studies.claim.regimes import regime_of
from studies.claim.runs import load_runs, load_with_all
from studies.claim.speed import load_speeds
from studies.claim.verdict import Comparison, compare, judge

from cqdino_d2.files import write_atomically

FIGURES = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "AP_lvis": "AP, LVIS",
    "APr": "APr",
    "APc": "APc",
    "APf": "APf",
    "ARC": "ARC",
    "ARC_macro": "ARC, by category",
}
RATIO, HARD = "gradient/positive_to_negative", "gradient/hard_share"
HARD_COUNT, NEGATIVES = "gradient/hard_count_share", "gradient/negatives_per_positive"


def variants_of(runs: Runs) -> list[str]:
    """The variants that there are, in their order."""
    return [name for name in VARIANTS if select(runs, variant=name)]


def spread(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean and, of several, the standard deviation; a dash for nothing."""
    known = [x for x in values if x is not None and not math.isnan(x)]
    if not known:
        return "–"
    text = f"{statistics.fmean(known):.{digits}f}"
    return f"{text} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def figure(one: dict[str, Any], name: str) -> float | None:
    """A figure of a run; ARC only where something is selected."""
    if name.startswith("ARC") and not RunKey(**one["run"]).selects:
        return None
    return one["figures"].get(name)


def mean_over_steps(
    one: dict[str, Any], name: str, start: float = 0.0, end: float = 1.0
) -> float | None:
    """Mean of a curve over a part of the training, given as shares of its steps."""
    curve = one["curves"].get(name)
    if curve is None:
        return None
    total = steps_done(one)
    pairs = zip(curve["steps"], curve["values"], strict=True)
    inside = [value for step, value in pairs if start * total <= step < end * total]
    return statistics.fmean(inside) if inside else None


def accuracy_table(runs: Runs, categories: int) -> str:
    """One row per variant of a vocabulary."""
    rows = []
    for name in variants_of(runs):
        these = select(runs, categories=categories, variant=name)
        if these:
            cells = [spread(figure(one, key) for one in these) for key in FIGURES]
            rows.append([VARIANTS[name], *cells, str(len(these))])
    return table(["", *FIGURES.values(), "seeds"], rows)


def seed_table(runs: Runs) -> str:
    """AP of every single run."""
    seeds = sorted({one["run"]["seed"] for one in runs})
    rows = []
    for categories in vocabularies(runs):
        for name in variants_of(select(runs, categories=categories)):
            found = {
                one["run"]["seed"]: f"{one['figures']['AP']:.2f}"
                for one in select(runs, categories=categories, variant=name)
            }
            rows.append([str(categories), VARIANTS[name], *(found.get(s, "–") for s in seeds)])
    return table([regime_of(runs).noun, "", *(f"seed {s}" for s in seeds)], rows)


def again_table(runs: Runs, again: Runs, other: str, keys: Sequence[str]) -> str:
    """Some figures of detectors and of the same ones as they were evaluated once more.

    Args:
        runs: all.
        again: the other evaluation of some.
        other: what was other about it.
        keys: the figures, of `FIGURES`.
    """
    rows = []
    for categories in vocabularies(again):
        for name in variants_of(select(again, categories=categories)):
            these = select(again, categories=categories, variant=name)
            seeds = {one["run"]["seed"] for one in these}
            usual = [
                one
                for one in select(runs, categories=categories, variant=name)
                if one["run"]["seed"] in seeds
            ]
            cells = [
                spread(one["figures"][key] for one in group)
                for key in keys
                for group in (usual, these)
            ]
            rows.append([str(categories), VARIANTS[name], *cells, str(len(these))])
    head = [cell for key in keys for cell in (FIGURES[key], other)]
    noun = regime_of(runs).noun
    return table([noun, "", *head, "seeds"], rows) if rows else "Not evaluated.\n"


def gradient_table(runs: Runs) -> str:
    """The balance of the class logits' gradient."""
    columns: list[tuple[str, Callable[[dict[str, Any]], float | None], int]] = [
        ("ratio, first tenth", lambda one: mean_over_steps(one, RATIO, 0.0, 0.1), 2),
        ("ratio, whole training", lambda one: mean_over_steps(one, RATIO, 0.1), 2),
        ("hard, of the negative gradient", lambda one: mean_over_steps(one, HARD, 0.1), 2),
        ("hard, of the negatives", lambda one: mean_over_steps(one, HARD_COUNT, 0.1), 4),
        ("negatives per positive", lambda one: mean_over_steps(one, NEGATIVES), 0),
    ]
    rows = []
    for categories in vocabularies(runs):
        for name in variants_of(select(runs, categories=categories)):
            these = select(runs, categories=categories, variant=name)
            cells = [spread(map(read, these), digits) for _, read, digits in columns]
            rows.append([str(categories), VARIANTS[name], *cells])
    return table([regime_of(runs).noun, "", *(title for title, _, _ in columns)], rows)


def cost_table(runs: Runs, speeds: dict[int, dict[str, Any]]) -> str:
    """Speed of one quiet pass, memory and size."""
    rows = []
    for categories in vocabularies(runs):
        timed = speeds.get(categories, {"variants": {}})["variants"]
        for name in variants_of(select(runs, categories=categories)):
            these = select(runs, categories=categories, variant=name)
            whole = [one for one in these if not one.get("resumed")]
            speed = timed.get(name)
            rows.append(
                [
                    str(categories),
                    VARIANTS[name],
                    f"{speed['images_per_second']:.1f}" if speed else "–",
                    f"{speed['train_step_ms']:.0f}" if speed else "–",
                    f"{max((one['peak_memory_mib'] for one in whole), default=math.nan):.0f}",
                    f"{these[0]['parameters'] / 1e6:.2f}",
                    spread([one["cpu_seconds"] for one in whole], 0),
                ]
            )
    head = [regime_of(runs).noun, "", "images/s", "ms a training step", "peak memory, MiB"]
    return table([*head, "parameters, M", "CPU seconds of a run"], rows)


def timing_of(speeds: dict[int, dict[str, Any]]) -> str:
    """The conditions of the timing, for the middle of a sentence."""
    if not speeds:
        return ""
    loads = " and ".join(f"{one['load']:.1f}" for one in speeds.values())
    one = next(iter(speeds.values()))
    images = one.get("images") or one["pictures"]  # the older name
    return f" of {images} images, {one['threads']} thread(s), machine load {loads}"


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Differences seed by seed with their interval."""
    rows = []
    for one in comparisons:
        low, high = one.interval
        interval = "–" if math.isinf(low) else f"{low:+.1f} to {high:+.1f}"
        each = ", ".join(f"{x:+.1f}" for x in one.differences)
        rows.append([str(one.categories), one.title, one.figure, each, interval, one.verdict])
    head = ["categories", "", "figure", "difference by seed", "95 % interval of the mean", ""]
    return table(head, rows)


def comparisons_of(runs: Runs) -> list[Comparison]:
    """What the claim and its parts are judged by."""
    pairs = [("tree", "baseline", name) for name in ("AP", "APr", "APc", "APf")]
    pairs += [
        ("selection", "no_selection", "AP"),
        ("no_selection", "baseline", "AP"),
        ("tree", "selection", "AP"),
        ("tree", "self_attention", "AP"),
    ]
    found = [compare(runs, n, *pair) for pair in pairs for n in vocabularies(runs)]
    return [one for one in found if one.differences]


def settings_lines(runs: Runs) -> str:
    """What all runs share, the sizes of the vocabularies and how long each variant trained."""
    one, noun = runs[0]["settings"], regime_of(runs).noun
    sizes = {r["run"]["categories"]: r["vocabulary_size"] for r in runs}
    listed = "; ".join(
        f"{n} {noun}: V = {sizes[n]} with their groups and sub-groups, K = {num_selected(n)}"
        for n in sorted(sizes)
    )
    length = (
        "As many steps of 16 images as fit into the same CPU time for all variants of a vocabulary"
        if one.get("cost")
        else f"{one['steps']} steps of 16 images for every run"
    )
    text = (
        f"{length}, device {one['device']}, "
        f"{one['train_images']} training and {one['val_images']} held-out images of 128 pixels "
        f"per vocabulary, frequencies as rank to the power of -{one['zipf']:g}. {listed}."
    )
    return f"{text}\n\n{length_table(runs)}" if one.get("cost") else text


def length_table(runs: Runs) -> str:
    """Cost and steps of every variant, where the cost is what they share."""
    rows = []
    for categories in vocabularies(runs):
        for name in variants_of(select(runs, categories=categories)):
            these = select(runs, categories=categories, variant=name)
            [[_, minutes]] = these[0]["settings"]["cost"]
            rows.append(
                [
                    str(categories),
                    VARIANTS[name],
                    f"{minutes:g}",
                    f"{these[0]['cpu_seconds_per_step']:.2f}",
                    str(steps_done(these[0])),
                    spread((one["cpu_seconds"] for one in these if not one["resumed"]), 0),
                ]
            )
    head = ["CPU minutes wanted", "CPU seconds of a step, timed before", "steps"]
    head.append("CPU seconds, evaluation included")
    return table([regime_of(runs).noun, "", *head], rows)


def commands_of(runs: Runs, page: str) -> str:
    """The call that makes these runs again, and one training as it was started."""
    one = runs[0]["settings"]
    seeds = " ".join(map(str, sorted({r["run"]["seed"] for r in runs})))
    if one.get("cost"):
        pairs = sorted({tuple(pair) for r in runs for pair in r["settings"]["cost"]})
        length = "--cost " + ",".join(f"{n}={minutes:g}" for n, minutes in pairs)
        start = f"--regime {one['regime']} --icons icons"
    else:
        names = " ".join(map(str, vocabularies(runs)))
        length, start = f"--steps {one['steps']} --categories {names}", "--regime scratch"
    call = (
        f"python projects_tools/study.py claim {start} --output OUTPUT \\\n"
        f"    --device {one['device']} {length} --train-images {one['train_images']} "
        f"--val-images {one['val_images']} \\\n    --seeds {seeds} "
        f"--variants {' '.join(variants_of(runs))} --budget 240\n"
        "python projects_tools/study.py claim --output OUTPUT --no-runs --all-at-test \\\n"
        f"    --report docs/{page}.md\n"
    )
    return f"{call}# one of its trainings:\n{' '.join(runs[-1]['command'])}\n"


def without_path(content: Any, output: Path) -> Any:
    """The same with OUTPUT for the folder's own path."""
    return json.loads(json.dumps(content).replace(str(output), "OUTPUT"))


def write_report(output: Path, path: Path) -> None:
    """Writes the report, its plots and ``runs.json`` (all that it is computed from) beside it.

    Args:
        output: the folder of `study.py claim`.
        path: of the Markdown file; the rest goes to a folder of its name.

    Raises:
        ValueError: there is no complete run, or the runs do not belong together.
    """
    runs = without_path(load_runs(output), output)
    unselected = without_path(load_with_all(output), output)
    perfect = load_with_present(output)
    if not runs:
        raise ValueError(f"there is no complete run in {output}/runs")
    if len({json.dumps(one["settings"] | {"cost": ()}, sort_keys=True) for one in runs}) > 1:
        raise ValueError(f"the runs in {output}/runs have different settings")
    speeds = load_speeds(output)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    draw_all(runs, folder)
    everything = {
        "runs": runs,
        "all_at_test": unselected,
        "perfect_selection": perfect,
        "speeds": speeds,
    }
    content = json.dumps(everything, separators=(",", ":"))
    write_atomically(folder / "runs.json", lambda file: file.write(content.encode()))
    comparisons = comparisons_of(runs)
    regime = regime_of(runs)
    noun = regime.noun
    text = (
        (Path(__file__).resolve().parent / regime.page)
        .read_text(encoding="utf-8")
        .format(
            verdict="\n".join(f"{line}\n" for line in judge(runs, comparisons, perfect)),
            settings=settings_lines(runs),
            accuracy="\n".join(
                f"### {n} {noun}\n\n{accuracy_table(runs, n)}" for n in vocabularies(runs)
            ),
            comparisons=comparison_table(comparisons),
            seeds=seed_table(runs),
            all_at_test=again_table(runs, unselected, "with all", ("AP", "AP_lvis", "APr")),
            perfect=again_table(runs, perfect, "perfect", ("ARC", "AP", "AP_lvis")),
            gradients=gradient_table(runs),
            costs=cost_table(runs, speeds),
            timing=timing_of(speeds),
            commands=commands_of(runs, folder.name),
            folder=folder.name,
        )
    )
    write_atomically(path, lambda file: file.write(text.encode()))

"""Tables and headlines made of the figures that benchmarks write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rerun.laws import QUANTITIES, fit
from benchmarks.rerun.tables import ABSENT

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """A table before it is known where it comes from.

    Attributes:
        name, columns, rows: as in `Table`.
        headlines: work, ours, peers, floor and ratio each.
        reasons: why a peer is missing, by its name.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    headlines: Sequence[tuple[str, str, str, str, str]] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


def milliseconds(seconds: float) -> str:
    """With a digit behind the point below 200."""
    return f"{1e3 * seconds:,.{0 if seconds >= 0.2 else 1}f} ms"


def operators(figures: Figures) -> list[Reading]:
    """Of `ops`: ours and grid_sample."""
    cases: dict[tuple[str, ...], dict[str, Any]] = {}
    for one in figures["results"]:
        key = (one["case"], one["dtype"], one["direction"])
        cases.setdefault(key, {})[one["implementation"]] = one
    columns = ["case", "type", "pass", "instructions", "ours", "grid_sample", "gain"]
    columns += ["extra memory", "grid_sample's"]
    rows, headlines = [], []
    for key, found in cases.items():
        ours, plain = found["ours"], found["grid_sample"]
        gain = f"{plain['seconds'] / ours['seconds']:.1f} x"
        times = [milliseconds(one["seconds"]) for one in (ours, plain)]
        memory = [f"{one['extra_memory'] / 2**20:.0f} MiB" for one in (ours, plain)]
        rows.append([*key, figures["kernel_instructions"], *times, gain, *memory])
        if key[1] == "float32" and key[0].endswith("batch 1"):
            work = f"deformable attention, {key[0].removesuffix(', batch 1')}, {key[2]}, float32"
            headlines.append((work, times[0], f"grid_sample {times[1]}", "", gain))
    return [Reading("attention", columns, rows, headlines)]


def cpu_parts(figures: Figures) -> list[Reading]:
    """Of `cpu_room`."""
    sides = list(next(iter(figures["seconds"].values())))[1:]
    columns = [figures["capability"], "with all", *sides]
    rows, headlines = [], []
    for case, seconds in figures["seconds"].items():
        ratios = [f"{seconds[side] / seconds['all']:.2f} x" for side in sides]
        rows.append([case, milliseconds(seconds["all"]), *ratios])
        if "feed-forward" in case:
            slow = f"without the forms for CPUs {milliseconds(seconds['without all'])}"
            headlines.append((case, milliseconds(seconds["all"]), slow, "", ratios[-1]))
    return [Reading("parts", columns, rows, headlines)]


def category_part(figures: Figures) -> list[Reading]:
    """Of `categories`."""
    columns, rows, headlines = ["", "plain", "ours", "ours in bfloat16", "cascade"], [], []
    sides = ("plain", "ours", "bfloat16", "cascade")
    for result in figures["results"]:
        seconds, ratio, extra = result["seconds"], result["ratio"], result["extra_mib"]
        cells = []
        for side in sides:
            gain = f" ({ratio[side]:.2f} x)" if side in ratio else ""
            cells.append(f"{seconds[side]:.2f} s{gain}" if side in seconds else ABSENT)
        rows.append([result["mode"], *cells])
        memory = [f"{extra[side]:.0f} MiB" if side in extra else ABSENT for side in sides]
        rows.append(["its extra memory", *memory])
        again = result.get("selected_again", {})
        if again:
            shares = [f"{100 * again[s]:.0f} %" if s in again else ABSENT for s in sides]
            rows.append(["the same categories", *shares])
        share = result.get("share_of_matrix_product")
        floor = f"{100 * share:.0f} % of the matrix product's rate" if share else ""
        work = f"{figures['arguments']['vocabulary']:,} categories, {result['mode']}"
        plain = f"the released order of operations {seconds['plain']:.2f} s"
        ours = f"{seconds['ours']:.2f} s"
        headlines.append((work, ours, plain, floor, f"{ratio['ours']:.2f} x"))
    return [Reading("part", columns, rows, headlines)]


def vocabulary(figures: Figures) -> list[Reading]:
    """Of `profile_model` over vocabularies, inference and compact."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for result in figures["results"]:
        stages = {stage["stage"]: stage for stage in result["stages"]}
        found.setdefault(result["vocabulary"], {})[result["mode"]] = stages
    columns = ["categories", "whole", "selection", "its GFLOP", "parameters", "memory held"]
    columns += ["whole, compact", "memory held, compact"]
    rows = []
    for number, modes in found.items():
        whole, compact = modes["inference"]["total"], modes["compact"]["total"]
        selection = modes["inference"]["selection"]
        cells = [f"{number:,}", f"{whole['seconds']:.2f} s", f"{selection['seconds']:.2f} s"]
        cells += [f"{selection['flops'] / 1e9:,.0f}", f"{whole['parameters'] / 1e6:.1f} M"]
        cells.append(f"{whole['held_bytes'] / 2**20:,.0f} MiB")
        cells += [f"{compact['seconds']:.2f} s", f"{compact['held_bytes'] / 2**20:,.0f} MiB"]
        rows.append(cells)
    least, most = min(found), max(found)
    few, many = (found[number]["inference"]["total"] for number in (least, most))
    small, large = (found[number]["compact"]["total"] for number in (least, most))
    micro = 1e6 * (many["seconds"] - few["seconds"]) / (most - least)
    held = (large["held_bytes"] - small["held_bytes"]) / (most - least)
    ours = f"{micro:.0f} microseconds an image, {held:,.0f} bytes compact"
    return [Reading("vocabulary", columns, rows, [("a further category", ours, "", "", "")])]


def model_stages(figures: Figures) -> list[Reading]:
    """Of `model`."""
    seconds, floor, flops = figures["seconds"], figures["floor"], figures["flops"]["ours"]
    plain, ours, half = (seconds.get(side, {}) for side in ("plain", "ours", "bfloat16"))
    columns = ["stage", "plain", "ours", "gain", "share of ours", "GFLOP", "floor", "of it"]
    columns.append("ours in bfloat16")
    rows = []
    for stage, time in ours.items():
        cells = [stage, f"{plain[stage]:.2f} s", f"{time:.2f} s"]
        cells.append(f"{plain[stage] / time:.2f} x" if time else "kept")
        cells += [f"{100 * time / ours['total']:.1f} %", f"{flops.get(stage, 0) / 1e9:.1f}"]
        cells += [f"{floor[stage]:.2f} s", f"{100 * floor[stage] / time:.0f} %" if time else ABSENT]
        rows.append([*cells, f"{half[stage]:.2f} s" if stage in half else ABSENT])
    about = figures["about"]
    size = " x ".join(map(str, about["size"]))
    work = f"CQ-DINO, {about['categories']:,} categories, {size}, inference"
    whole, slow = ours["total"], plain["total"]
    told = (f"{whole:.2f} s", f"plain formulation {slow:.2f} s", f"{floor['total']:.2f} s")
    return [Reading("stages", columns, rows, [(work, *told, f"{slow / whole:.2f} x")])]


_PEERS = {"cqdino": "deformable_detr", "by_words": "grounding_dino"}
_CALLED = {
    "cqdino": "CQ-DINO",
    "deformable_detr": "transformers' Deformable DETR",
    "by_words": "ours by words",
    "grounding_dino": "transformers' Grounding DINO",
}


def training_steps(figures: Figures) -> list[Reading]:
    """Of `training_steps`, a table for each size."""
    readings = []
    for model, sides in figures["seconds"].items():
        reasons = {_CALLED[s]: f["failure"] for s, f in sides.items() if "failure" in f}
        measured = {s: f for s, f in sides.items() if "failure" not in f}
        stages = next(iter(measured.values()), {})
        rows = [
            [stage, *(f"{f[stage]:.2f}" if stage in f else ABSENT for f in sides.values())]
            for stage in stages
        ]
        headlines = []
        for side in [side for side in _PEERS if side in measured]:
            ours, peer = measured[side]["all"], measured.get(_PEERS[side])
            theirs = f"{_CALLED[_PEERS[side]]} {peer['all']:.1f} s" if peer else ""
            ratio = f"{peer['all'] / ours:.1f} x" if peer else ""
            work = f"training step, {model.replace('_', '-')}, {_CALLED[side]}, two images"
            headlines.append((work, f"{ours:.1f} s", theirs, "", ratio))
        columns = ["seconds", *(_CALLED[side] for side in sides)]
        readings.append(Reading(f"training_{model}", columns, rows, headlines, reasons))
    return readings


def evaluation(figures: Figures) -> list[Reading]:
    """Of `evaluation`, a table for each comparison."""
    columns = ["", "whole process (best)", "CPU of it", "memory", "evaluation alone", "CPU of it"]
    readings = []
    for name, contestants in figures.items():
        rows, reasons = [], {}
        for one in contestants:
            if one["failure"]:
                reasons[one["name"]] = one["failure"]
                rows.append([one["name"], *[ABSENT] * 5])
                continue
            cells = [f"{one['wall']:.1f} s ({one['best']:.1f})", f"{one['process_cpu']:.1f} s"]
            cells.append(f"{one['GB']:.2f} GB")
            cells += [f"{one[k]:.2f} s" if k in one else ABSENT for k in ("evaluate", "cpu")]
            rows.append([one["name"], *cells])
        found = [one for one in contestants if not one["failure"]]
        headlines = _evaluation_headlines(name, found)
        readings.append(Reading(name, columns, rows, headlines, reasons))
    return readings


def _evaluation_headlines(name: str, found: list[Figures]) -> list[tuple[str, ...]]:
    """Whole processes, of the others with the same protocol, where it was measured with others."""
    sizes = {"v3det": "V3Det", "coco": "COCO", "lvis": "LVIS"}
    ours = [one for one in found if one["name"] in ("ours", "ours, COCO's protocol")]
    if name not in sizes or not ours:
        return []
    others = [one for one in found if not one["name"].startswith("ours")]
    mine = ours[0]
    theirs = "; ".join(f"{one['name']} {one['wall']:.1f} s, {one['GB']:.2f} GB" for one in others)
    ratios = ", ".join(f"{one['wall'] / mine['wall']:.1f} x" for one in others)
    work = f"{sizes[name]} val's size from JSON, {'LVIS' if name == 'lvis' else 'COCO'}' protocol"
    work = work.replace("COCO'", "COCO's")
    return [(work, f"{mine['wall']:.1f} s, {mine['GB']:.2f} GB", theirs, "", ratios)]


def data(figures: Figures) -> list[Reading]:
    """Of `data`."""
    loading, speeds = figures["loading"], figures["mappers"]
    theirs, ours = loading["detectron2"]["cpu"], loading["first"]["cpu"]
    first = ("first load of V3Det train's size, CPU", f"{ours:.2f} s", f"Detectron2 {theirs:.2f} s")
    mapper = ("mapper, one core", f"{speeds['ours']:.1f} images/s")
    peer = f"Detectron2 {speeds['detectron2']:.1f} images/s"
    ratio = f"{speeds['ours'] / speeds['detectron2']:.2f} x"
    headlines = [(*first, "", f"{theirs / ours:.1f} x"), (*mapper, peer, "", ratio)]
    return [Reading("data", ["", "Detectron2", "ours", "bar"], figures["rows"], headlines)]


def growth(figures: Figures, label: str) -> list[Reading]:
    """Of `growth` along one axis: its points, then the laws."""
    points = figures["points"]
    rows = [[f"{p['x']:,}", f"{p['seconds']:.3g}", f"{p['bytes'] / 2**20:,.1f}"] for p in points]
    laws = []
    for key, scale, unit, _ in QUANTITIES:
        law = fit([p["x"] for p in points], [scale * p[key] for p in points])
        laws.append(law.text(unit) if law else ABSENT)
    columns = [label, "CPU seconds", "MiB"]
    return [Reading(figures["axis"], columns, [*rows, ["law", *laws]])]

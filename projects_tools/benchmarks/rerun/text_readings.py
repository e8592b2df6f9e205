"""Tables and headlines of the benchmarks about words, files, servers and folders."""

from __future__ import annotations

from benchmarks.rerun.readings import Figures, Reading
from benchmarks.rerun.tables import ABSENT


def names(figures: Figures) -> list[Reading]:
    """Of `text_prompts` with 25 names."""
    return [_against_transformers("names", "Grounding DINO, Swin-T, 25 names", figures)]


def lvis(figures: Figures) -> list[Reading]:
    """Of `text_prompts --lvis`."""
    return [_against_transformers("lvis", "Grounding DINO, Swin-T, LVIS' 1,203 names", figures)]


def _against_transformers(name: str, work: str, figures: Figures) -> Reading:
    found = figures["seconds_and_mib"]
    theirs, rows = found["transformers"][0], []
    for side in ("transformers", "ours", "ours, text kept"):
        if side in found:
            seconds, memory = found[side]
            gain = "" if side == "transformers" else f" ({theirs / seconds:.1f} times as fast)"
            rows.append([side, f"{seconds:.2f}{gain}", f"{memory:.0f}"])
    ours = found["ours"][0]
    told = (f"{ours:.2f} s", f"transformers {theirs:.2f} s", "", f"{theirs / ours:.1f} x")
    return Reading(name, ["", "seconds an image", "MiB beyond the model"], rows, [(work, *told)])


def edge(figures: Figures) -> list[Reading]:
    """Of `edge`: stages in ms."""
    stages = ("backbone", "categories", "encoder", "query_selection", "decoder", "total")
    sides = figures["seconds"]
    (light, light_seconds), *others = sides.items()
    rows, headlines = [], []
    for side, seconds in sides.items():
        gain = seconds["total"] / light_seconds["total"]
        cells = [f"{1e3 * seconds[stage]:.0f}" for stage in stages]
        rows.append([side, *cells, ABSENT if side == light else f"{gain:.1f} times"])
    for side, seconds in others:
        ratio = f"{seconds['total'] / light_seconds['total']:.1f} x"
        times = [f"{1e3 * one['total']:.0f} ms" for one in (light_seconds, seconds)]
        headlines.append((f"{light}, 25 names", times[0], f"our {side} {times[1]}", "", ratio))
    return [Reading("edge", ["", *stages, "Edge is faster by"], rows, headlines)]


def training(figures: Figures) -> list[Reading]:
    """Of `text_training`."""
    rows, headlines = [], []
    for pair, seconds in figures["seconds"].items():
        rates = [figures["batch"] / seconds[side] for side in ("CQ-DINO", "by words")]
        ratio = rates[1] / rates[0]
        rows.append([f"{pair}, images/s", *(f"{rate:.1f}" for rate in rates), f"{ratio:.2f} times"])
        peer = f"our CQ-DINO of the same sizes {rates[0]:.1f} images/s"
        work = f"training step by words, {pair} model"
        headlines.append((work, f"{rates[1]:.1f} images/s", peer, "", f"{ratio:.2f} x"))
    return [Reading("training", ["", "CQ-DINO", "by words", ""], rows, headlines)]


def export(figures: Figures) -> list[Reading]:
    """Of `export`: the runtimes against eager mode."""
    seconds = figures["seconds"]
    eager = seconds["eager"]
    rows = [
        [side, f"{1e3 * time:.0f}", "" if side == "eager" else f"{eager / time:.2f}"]
        for side, time in seconds.items()
    ]
    best = min(seconds, key=lambda side: seconds[side])
    told = f"eager {1e3 * eager:.0f} ms, {best} {1e3 * seconds[best]:.0f} ms"
    headline = ("Edge at 640 x 640, exported", told, "", "", f"{eager / seconds[best]:.2f} x")
    return [Reading("edge", ["", "ms", "times as fast as eager"], rows, [headline])]


def serving(figures: Figures) -> list[Reading]:
    """Of `serving`."""
    rows = figures["rows"]
    clients = sorted({int(row[0]) for row in rows})
    middle = str(clients[len(clients) // 2])
    one, batched = (row[2] for row in rows if row[0] == middle)
    work = f"HTTP API, Swin-T at 320 pixels, {middle} clients"
    ratio = f"{float(batched) / float(one):.2f} x"
    told = (f"{batched} images/s in batches", f"one by one {one} images/s", "", ratio)
    return [Reading("clients", figures["columns"], rows, [(work, *told)])]


def throughput(figures: Figures) -> list[Reading]:
    """Of `throughput`: ours, then the others; each of ours is held against transformers'."""
    sides = figures["sides"]
    rows, reasons = [], {}
    for side, found in sides.items():
        if "failure" in found:
            reasons[side] = found["failure"]
            rows.append([side, *[ABSENT] * 4])
            continue
        cells = [f"{found['images/s']:.2f}", f"{found['CPU s an image']:.2f}"]
        rows.append([side, *cells, f"{found['parameters'] / 1e6:.1f} M", found["size"]])
    headlines = []
    for ours, theirs in (
        ("CategoryPredictor", "transformers Deformable DETR"),
        ("TextPredictor", "transformers Grounding DINO"),
    ):
        mine, peer = (sides.get(side, {}).get("images/s") for side in (ours, theirs))
        if mine:
            told = f"{theirs} {peer:.2f} images/s" if peer else ""
            ratio = f"{mine / peer:.1f} x" if peer else ""
            work = f"a folder of photographs, {ours}"
            headlines.append((work, f"{mine:.2f} images/s", told, "", ratio))
    columns = ["", "images/s", "CPU s an image", "parameters", "longest side"]
    return [Reading("folder", columns, rows, headlines, reasons)]

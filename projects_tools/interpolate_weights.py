"""Evaluates weights on the way from before a fine-tuning to after it (WiSE-FT).

Example:
    python projects_tools/interpolate_weights.py --config-file configs/emojidet/text_prompted.py \\
        --before output/base/model_inference.pth --after output/tuned/model_inference.pth \\
        --shares 0,0.25,0.5,0.75,1 --output output/path --keep 0.5

A model that was fine-tuned forgets; between its weights and those before there are often some that
know nearly all of both. Writes path.json and path.png, and with --keep the weights of that share.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cqdino_d2.files import write_atomically
from cqdino_d2.structures import one_line

if TYPE_CHECKING:  # what takes seconds to import is imported once the command line is read
    from matplotlib.figure import Figure


def numbers(text: str) -> list[float]:
    """Numbers between commas."""
    return [float(one) for one in text.split(",")]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="its test sets are evaluated")
    add("--before", required=True, metavar="FILE", help="weights before the fine-tuning")
    add("--after", required=True, metavar="FILE", help="weights after it")
    add("--output", type=Path, required=True, metavar="DIR")
    add("--shares", type=numbers, default="0,0.25,0.5,0.75,1", metavar="X,...")
    add(
        "--figures",
        type=lambda text: text.split(","),
        default="AP,AP50,AP_base,AP_novel",
        metavar="NAME,...",
        help="what the table and the plot show, where it is measured",
    )
    add("--keep", type=float, metavar="X", help="write the weights of this share")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def evaluate_path(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every share."""
    import torch
    from detectron2.config import instantiate

    from cqdino_d2.data import register_all
    from cqdino_d2.engine import Evaluation, interpolated, load_config
    from cqdino_d2.engine.config import settle_evaluation
    from cqdino_d2.engine.placement import choose_device
    from cqdino_d2.files.weights_file import read_weights, without_prefixes

    cfg = load_config(given.config_file, given.overrides)
    cfg.train.output_dir = str(given.output / "evaluation")
    register_all(cfg.train.get("datasets_root"))
    cfg = settle_evaluation(cfg, given.after)
    model = instantiate(cfg.model).to(choose_device(cfg.train.device))
    before, after = (
        without_prefixes(read_weights(path), model.state_dict())
        for path in (given.before, given.after)
    )
    if given.keep is not None:
        content = {"model": interpolated(before, after, given.keep)}
        target = given.output / "model_interpolated.pth"
        write_atomically(target, lambda file: torch.save(content, file))
    evaluation = Evaluation.of_model(cfg, model)
    rows = []
    for share in given.shares:
        model.load_state_dict(interpolated(before, after, share))
        evaluation.run()
        written = Path(cfg.train.output_dir, "results.json").read_text(encoding="utf-8")
        rows.append({"share": share, "results": json.loads(written)})
    return rows


def chosen_figures(results: dict[str, Any], wanted: list[str]) -> dict[str, float]:
    """'AP', or 'set.AP' where there are several tasks -> value."""
    return {
        name if len(results) == 1 else f"{task}.{name}": figures[name]
        for task, figures in results.items()
        for name in wanted
        if figures.get(name) is not None
    }


def draw_path(rows: list[dict[str, Any]], wanted: list[str]) -> Figure:
    """The figures over the share of the way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    shares = [row["share"] for row in rows]
    columns = [chosen_figures(row["results"], wanted) for row in rows]
    for name in columns[0]:
        axes.plot(shares, [column.get(name) for column in columns], "o-", label=name)
    axes.set_xlabel("share of the way from before to after")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Evaluates the path; returns the exit code."""
    given = parse_arguments(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        rows = evaluate_path(given)
        text = json.dumps(rows, indent=2)
        write_atomically(given.output / "path.json", lambda file: file.write(text.encode()))
        figure = draw_path(rows, given.figures)
        write_atomically(given.output / "path.png", lambda file: figure.savefig(file, dpi=120))
    except (ValueError, OSError) as error:
        print(f"interpolate_weights: {one_line(str(error))}", file=sys.stderr)
        return 2
    names = list(chosen_figures(rows[0]["results"], given.figures))
    print("share " + "".join(f"{name:>12s}" for name in names))
    for row in rows:
        found = chosen_figures(row["results"], given.figures)
        print(f"{row['share']:5.2f} " + "".join(f"{found[name]:12.2f}" for name in names))
    return 0


if __name__ == "__main__":
    sys.exit(main())

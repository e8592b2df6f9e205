"""Trains EmojiDet in the paper's two stages, and in one stage for the same time.

Example:
    python projects_tools/study.py two_stage --output output/two_stage
    python projects_tools/study.py two_stage --smoke

Stage 1 trains the tagger, stage 2 the detector from its checkpoint; then, unless --no-compare, a
detector is trained in one stage for as many steps as fit into the time of both, by the median time
of a step (which a busy machine disturbs less than a sum). Writes two_stage.json. A run that was
stopped is resumed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from quickstart import (
    CONFIG,
    FULL,
    ROOT,
    SMOKE,
    build_data,
    override,
    read_results,
    run_train_net,
    step,
    write_metrics,
)

STAGE1_CONFIG = ROOT / "configs/emojidet/stage1.py"


def train(config: Path, datasets: Path, folder: Path, steps: int, *more: str) -> float:
    """Trains for ``steps`` steps; returns their seconds at the median step's speed."""
    settings = [override("train.output_dir", folder), f"train.max_iter={steps}"]
    settings.append(f"lr_multiplier.warmup_iter={max(1, 3 * steps // 100)}")
    run_train_net(datasets, "--resume", *settings, *more, config=config)
    lines = (folder / "metrics.json").read_text().splitlines()
    times = [row["time"] for row in map(json.loads, lines) if "time" in row]
    return steps * statistics.median(times)


def main(arguments: list[str] | None = None) -> None:
    """Runs both stages and the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=ROOT / "output/two_stage")
    add("--stage1-steps", type=int, help="default 1200, or 20 with --smoke")
    add("--stage2-steps", type=int, help="default 1300, or 20 with --smoke")
    add("--no-compare", action="store_true", help="only the two stages")
    add("--smoke", action="store_true", help="a minute: runs every step, learns next to nothing")
    add("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    size, default = (SMOKE, (20, 20)) if args.smoke else (FULL, (1200, 1300))
    first, second = args.stage1_steps or default[0], args.stage2_steps or default[1]
    output, seed = args.output.resolve(), f"train.seed={args.seed}"
    datasets = output / "datasets"
    datasets.mkdir(parents=True, exist_ok=True)

    step("EmojiDet")
    build_data(datasets / "emojidet", size)
    step(f"stage 1: tagger, {first} steps")
    tagging = train(STAGE1_CONFIG, datasets, output / "stage1", first, seed)
    step(f"stage 2: detector, {second} steps from the tagger")
    start = override("train.init_checkpoint", output / "stage1/model_inference.pth")
    detecting = train(CONFIG, datasets, output / "stage2", second, seed, start)
    tagger = json.loads((output / "stage1/results.json").read_text())
    metrics = {
        "stage1_steps": first,
        "stage2_steps": second,
        "stage1_seconds": round(tagging, 1),
        "stage2_seconds": round(detecting, 1),
        **{f"stage1_{k}": v for k, v in (tagger["tagging"] | tagger["selection"]).items()},
        **{f"two_stage_{k}": v for k, v in read_results(output / "stage2").items()},
    }
    if not args.no_compare:
        steps = round(second * (tagging + detecting) / detecting)
        step(f"one stage: detector, {steps} steps")
        seconds = train(CONFIG, datasets, output / "one_stage", steps, seed)
        metrics |= {"one_stage_steps": steps, "one_stage_seconds": round(seconds, 1)}
        metrics |= {f"one_stage_{k}": v for k, v in read_results(output / "one_stage").items()}
    write_metrics(output / "two_stage.json", metrics)
    for name, value in metrics.items():
        if name.endswith(("_steps", "_seconds", "_AP", "_AP50", "_ARC", "_mAP")):
            print(f"  {name:24s}{value:10.1f}")


if __name__ == "__main__":
    main()

"""Builds a small EmojiDet, trains CQ-DINO on it, evaluates it and draws what it sees.

Example:
    bash projects_tools/quickstart.sh
    python projects_tools/quickstart.py --smoke --output output/smoke

Before the training it times a few steps and says about how long all of it will take here. If other
processes keep all cores busy at the start, a line says so.
Everything lands in the output folder: metrics.json, loss_curve.png, predictions.png, the dataset
and the training's own folder. A run that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

CONFIG = ROOT / "configs/emojidet/quickstart.py"
LEARNT = dict(AP=55.0, AP50=75.0, ARC=95.0)  # at least, on held-out images
RANDOM_SHARE = 0.45  # at most, of the AP, with a random selection of categories
LOAD_VARIABLE = "CQDINO_QUICKSTART_LOAD"  # set by quickstart.sh
AROUND_EVALUATIONS = 20.0  # seconds: starting the programs, scoring, drawing


@dataclass(frozen=True)
class Size:
    """How much data and how many steps; a run is bound by steps, not by time."""

    categories: int
    train_images: int
    val_images: int
    steps: int


FULL = Size(categories=96, train_images=8000, val_images=200, steps=1800)
SMOKE = Size(categories=24, train_images=200, val_images=50, steps=40)


@dataclass(frozen=True)
class Trained:
    """What a training took.

    Attributes:
        steps: of all of it.
        before: of these, those of earlier runs that this one resumed.
        expected: seconds of this run's steps, as measured before them.
        seconds: of all steps.
    """

    steps: int
    before: int
    expected: float
    seconds: float


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="quickstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, help="default: output/quickstart, or output/smoke")
    parser.add_argument(
        "--smoke", action="store_true", help="a minute: runs every step, learns next to nothing"
    )
    parser.add_argument("--steps", type=int, help="training steps instead of the usual number")
    return parser.parse_args(arguments)


def step(title: str) -> None:
    """Announces a step."""
    print(f"\n[quickstart] {title}", flush=True)


def load_average() -> float | None:
    """Mean load of the last minute, from before an installation; None if unknown."""
    before_installation = os.environ.get(LOAD_VARIABLE)
    if before_installation:
        return float(before_installation)
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows; a system that cannot tell
        return None


def say_if_cores_are_shared() -> None:
    """Says in one line that other processes keep all usable cores busy, if they do."""
    load = load_average()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if load is not None and load >= (cores or 1):
        shared = f"load average {load:.1f}, usable cores {cores}"
        step(f"Other processes share the cores ({shared}): the training will take longer")


def run_train_net(datasets: Path, *arguments: str, config: Path = CONFIG) -> None:
    """Runs train_net.py as a user would."""
    command = ["train_net.py", "--config-file", os.path.relpath(config, ROOT), *arguments]
    print("$ python", *command, flush=True)
    environment = os.environ | {"DETECTRON2_DATASETS": str(datasets)}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)
    try:
        process.wait()
    except SystemExit:  # of `stop`; the training saves what it has
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def stop(number: int, _: object) -> None:
    """Ends the program at a signal."""
    sys.exit(128 + number)


def override(key: str, path: Path) -> str:
    """An override of the config by a path, quoted so that any folder name will do."""
    escaped = str(path).replace("'", "\\'")
    return f"{key}='{escaped}'"


def build_data(folder: Path, size: Size) -> float:
    """Makes the EmojiDet of the quickstart; returns seconds."""
    from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
    from cqdino_d2.data.emojidet.compose import CompositionSettings

    started = time.monotonic()
    composition = CompositionSettings(
        image_size=128, object_size=(16, 48), overlap=0.3, hue_shift=True, grey_share=0.1
    )
    settings = EmojiDetSettings(
        categories=size.categories,
        train_images=size.train_images,
        val_images=size.val_images,
        composition=composition,
        interior_categories=True,
    )
    build_emojidet(folder, settings, workers=os.cpu_count() or 1)
    return time.monotonic() - started


def steps_done(training: Path) -> int:
    """How many steps of a training its last checkpoint holds."""
    from cqdino_d2.engine.checkpointer import SavedState

    try:
        saved = SavedState.last_in(training)
    except (ValueError, OSError):  # the training will name what is wrong with it
        return 0
    return saved.start_iter if saved else 0


def expected_seconds(datasets: Path, steps: int) -> tuple[float, float]:
    """Seconds of ``steps`` training steps on this machine and of one evaluation, measured."""
    from cqdino_d2.data import load_category_embeddings, register_all
    from cqdino_d2.engine import Training, load_config, measure_pace

    register_all(datasets)
    with tempfile.TemporaryDirectory() as scratch:
        cfg = load_config(str(CONFIG), [override("train.output_dir", Path(scratch))])
        training = Training.prepare(cfg, resume=False, load_embeddings=load_category_embeddings)
        pace = measure_pace(training.trainer, training.evaluation)
        training.lock.release()
    return steps * pace.step, pace.evaluation


def train(datasets: Path, training: Path, steps: int) -> Trained:
    """Says how long it will take, then trains and evaluates."""
    from cqdino_d2.engine import duration
    from cqdino_d2.engine.hooks import last_figure

    before = steps_done(training)
    left = max(0, steps - before)
    seconds, evaluation = expected_seconds(datasets, left)
    done = f" ({before} are done)" if before else ""
    step(
        f"2/4 Training: {left} steps{done}, about {duration(seconds)} on this machine; all that "
        f"follows about {duration(2 * evaluation + AROUND_EVALUATIONS)}"
    )
    run_train_net(
        datasets,
        "--resume",
        override("train.output_dir", training),
        f"train.max_iter={max(steps, before)}",
        f"lr_multiplier.warmup_iter={max(1, 3 * steps // 100)}",
    )
    taken = last_figure(training / "metrics.json", "train_seconds", 0.0)
    return Trained(max(steps, before), before, expected=seconds, seconds=taken)


def read_results(folder: Path) -> dict[str, float]:
    """The figures of an evaluation: COCO's and the selection's, LVIS' and V3Det's AP."""
    results = json.loads((folder / "results.json").read_text())
    others = {f"AP_{task}": results[task]["AP"] for task in ("lvis", "v3det")}
    return results["bbox"] | results["selection"] | others


def evaluate_random_selection(training: Path, datasets: Path) -> float:
    """AP of the trained detector when the K categories are drawn at random."""
    folder = training / "random_selection"
    run_train_net(
        datasets,
        "--eval-only",
        override("train.init_checkpoint", training / "model_inference.pth"),
        override("train.output_dir", folder),
        "model.selection.ranking=random",
    )
    return read_results(folder)["AP"]


def predict(training: Path, datasets: Path, output: Path) -> None:
    """Predicts on held-out images as an evaluation does and draws the result."""
    from detectron2.data import DatasetCatalog

    from cqdino_d2.data import register_all
    from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
    from cqdino_d2.structures import load_vocabulary
    from cqdino_d2.visualization.training_pictures import draw_comparison

    cfg = get_predictor_cfg(CONFIG, weights=training / "model_inference.pth", device="cpu")
    register_all(datasets)
    draw_comparison(
        predictor=CategoryPredictor(cfg),
        vocabulary=load_vocabulary(training / "vocabulary.json"),
        records=DatasetCatalog.get("emojidet_val")[:6],
        path=output / "predictions.png",
    )


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Writes one flat dict, whole or not at all."""
    from cqdino_d2.files import write_atomically

    text = json.dumps(metrics, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def unmet_expectations(metrics: dict[str, Any]) -> list[str]:
    """What the run should have reached and did not."""
    unmet = [
        f"{name} is {metrics[name]:.1f}, expected at least {least:.0f}"
        for name, least in LEARNT.items()
        if metrics[name] < least
    ]
    most = RANDOM_SHARE * metrics["AP"]
    if metrics["AP_random_selection"] > most:
        unmet.append(
            f"AP with a random selection is {metrics['AP_random_selection']:.1f}, "
            f"expected at most {RANDOM_SHARE} x AP = {most:.1f}"
        )
    return unmet


def report(metrics: dict[str, Any], output: Path) -> None:
    """Prints the closing table and where everything lies."""
    rows = [
        ("AP / AP50 / AP75", "{AP:.1f} / {AP50:.1f} / {AP75:.1f}"),
        ("true categories among the K (ARC)", "{ARC:.1f} %"),
        ("AP with K categories at random", "{AP_random_selection:.1f}"),
        ("categories (with tree nodes)", "{num_categories} ({vocabulary_size})"),
        ("training", "{iterations} steps, {train_seconds:.0f} s"),
        ("backbone computed in", "{autocast_dtype} ({instruction_set})"),
        (
            f"this run, from step {metrics['resumed_iterations']} on"
            if metrics["resumed_iterations"]
            else "all after installation",
            "{total_seconds:.0f} s",
        ),
    ]
    print("\n[quickstart] Held-out images of EmojiDet")
    for title, pattern in rows:
        print(f"  {title:36s}{pattern.format(**metrics)}")
    for name in ("metrics.json", "loss_curve.png", "predictions.png", "training/"):
        print(f"  {output / name}")
    print("  Artwork: Twemoji, CC-BY 4.0")


def main(arguments: list[str] | None = None) -> int:
    """Runs all steps; the exit code is 1 if the detector has not learnt what it should."""
    given = parse_arguments(arguments)
    size = SMOKE if given.smoke else FULL
    steps = given.steps or size.steps
    started = time.monotonic()
    say_if_cores_are_shared()
    output = (
        given.output or ROOT / "output" / ("smoke" if given.smoke else "quickstart")
    ).resolve()
    datasets, training = output / "datasets", output / "training"
    datasets.mkdir(parents=True, exist_ok=True)

    step(f"1/4 EmojiDet: {size.categories} emoji, {size.train_images} + {size.val_images} images")
    build_seconds = build_data(datasets / "emojidet", size)
    step("2/4 Training: a few steps are timed")
    trained = train(datasets, training, steps)
    step("3/4 Does the selection matter? Evaluation with categories drawn at random")
    random_ap = evaluate_random_selection(training, datasets)
    step("4/4 Prediction")
    from cqdino_d2.visualization.training_pictures import draw_loss_curve

    predict(training, datasets, output)
    draw_loss_curve(training / "metrics.json", output / "loss_curve.png")

    vocabulary = json.loads((training / "vocabulary.json").read_text())
    machine = json.loads((training / "machine.json").read_text())
    metrics = read_results(training) | dict(
        AP_random_selection=random_ap,
        num_categories=size.categories,
        vocabulary_size=len(vocabulary["names"]),
        num_val_images=size.val_images,
        iterations=trained.steps,
        resumed_iterations=trained.before,
        instruction_set=machine["instruction_set"],
        autocast_dtype=machine["autocast_dtype"],
        expected_train_seconds=round(trained.expected, 1),
        build_seconds=round(build_seconds, 1),
        train_seconds=round(trained.seconds, 1),
        total_seconds=round(time.monotonic() - started, 1),
    )
    write_metrics(output / "metrics.json", metrics)
    report(metrics, output)
    unmet = [] if given.smoke or given.steps else unmet_expectations(metrics)
    for line in unmet:
        print(f"[quickstart] NOT REACHED: {line}")
    return 1 if unmet else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        sys.exit(main())
    except FileExistsError as error:
        sys.exit(f"[quickstart] {error}\nRemove that folder, or name another with --output.")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except OSError as error:
        print(f"[quickstart] {error}", file=sys.stderr)
        sys.exit(2)

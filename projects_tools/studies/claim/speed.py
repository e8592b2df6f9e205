"""Times trained variants of `study.py claim` of one vocabulary, in turns, in this process.

Example:
    PYTHONPATH=projects_tools:. python -m studies.claim.speed output/claim cpu 100 \\
        400-baseline-0 400-tree-0
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.time_model import train_step
from detectron2.config import LazyConfig, instantiate
from quickstart import ROOT, write_metrics
from studies.claim.keys import RunKey
from studies.claim.regimes import datasets_folder, regime_of
from studies.claim.runs import result_file
from torch import nn
from tqdm import tqdm

from cqdino_d2.data import register_all
from cqdino_d2.engine.config import with_vocabulary

BATCH = 16


def load_model(output: Path, key: RunKey, device: str) -> tuple[nn.Module, Any]:
    """A run's detector with its weights, and its config."""
    regime = regime_of([json.loads(result_file(output, key).read_text())])
    cfg = LazyConfig.load(str(ROOT / regime.configs / f"{key.variant}.py"))
    folder = output / "training" / str(key)
    cfg.model = LazyConfig.load(str(folder / "config.yaml")).model  # with the run's overrides
    cfg.model.criterion.observers = []  # they write to a training's log
    cfg = with_vocabulary(cfg, instantiate(cfg.vocabulary))
    model = instantiate(cfg.model).to(device)
    weights = torch.load(folder / "model_inference.pth", weights_only=True, map_location=device)
    model.load_state_dict(weights["model"])
    return model.eval(), cfg


def read_batches(cfg: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Held-out images, and one training batch."""
    cfg.dataloader.test.num_workers = 0
    images = [item for batch in instantiate(cfg.dataloader.test) for item in batch]
    cfg.dataloader.train.total_batch_size = BATCH
    return images, next(iter(instantiate(cfg.dataloader.train)))


def take_turns(
    jobs: Mapping[str, Callable[[int], None]], rounds: int, device: str, title: str
) -> dict[str, list[float]]:
    """Seconds of every job in every round, after two rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in tqdm(range(rounds + 2), title, mininterval=1.0):
        for name, job in jobs.items():
            started = time.perf_counter()
            job(number)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: times[2:] for name, times in seconds.items()}


def time_variants(
    output: Path, keys: list[RunKey], device: str, images: int = 100, steps: int = 5
) -> dict[str, Any]:
    """Times prediction image by image and training steps; writes ``speed/CATEGORIES.json``.

    Args:
        output: of `study.py claim`.
        keys: finished runs of one vocabulary, one per variant.
        device: "cpu" or "cuda".
        images: how many are predicted.
        steps: training steps.
    """
    categories = keys[0].categories
    register_all(datasets_folder(output, categories))
    loaded = {key.variant: load_model(output, key, device) for key in keys}
    models = {name: model for name, (model, _) in loaded.items()}
    shown, batch = read_batches(loaded[keys[0].variant][1])

    def predict(model: nn.Module) -> Callable[[int], None]:
        def job(number: int) -> None:
            with torch.no_grad():
                model(shown[number % len(shown) :][:1])

        return job

    predicting = {name: predict(model) for name, model in models.items()}
    seconds = take_turns(predicting, images, device, f"{categories}: prediction")
    optimizers = {name: torch.optim.AdamW(m.parameters(), lr=1e-9) for name, m in models.items()}
    training = {
        name: lambda _, model=model, optimizer=optimizers[name]: train_step(model, optimizer, batch)
        for name, model in models.items()
    }
    step_seconds = take_turns(training, steps, device, f"{categories}: training")
    result = {
        "categories": categories,
        "device": device,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "images": images,
        "variants": {
            name: {
                "images_per_second": 1 / statistics.median(seconds[name]),
                "milliseconds": [round(1e3 * x, 2) for x in seconds[name]],
                "train_step_ms": 1e3 * statistics.median(step_seconds[name]),
            }
            for name in models
        },
    }
    (output / "speed").mkdir(exist_ok=True)
    write_metrics(output / "speed" / f"{categories}.json", result)
    return result


def load_speeds(output: Path) -> dict[int, dict[str, Any]]:
    """Categories -> what `time_variants` wrote."""
    found = [json.loads(path.read_text()) for path in (output / "speed").glob("*.json")]
    return {one["categories"]: one for one in sorted(found, key=lambda one: one["categories"])}


def main(arguments: list[str] | None = None) -> None:
    """Times the runs that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="of study.py claim")
    parser.add_argument("device", choices=["cpu", "cuda"])
    parser.add_argument("images", type=int, help="how many are predicted, one by one")
    parser.add_argument("runs", nargs="+", type=RunKey.parse, metavar="CATEGORIES-VARIANT-SEED")
    given = parser.parse_args(arguments)
    result = time_variants(given.output, given.runs, given.device, given.images)
    for name, figures in result["variants"].items():
        print(
            f"{result['categories']} {name}: {figures['images_per_second']:.1f} images/s, "
            f"training step {figures['train_step_ms']:.0f} ms"
        )


if __name__ == "__main__":
    main()

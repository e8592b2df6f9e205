"""The single runs of `study.py claim`: data, training and one JSON file per run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from quickstart import ROOT, override, write_metrics

from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.data.emojidet.compose import CompositionSettings

CONFIGS = "configs/emojidet/claim"
VARIANTS = {  # name of the config -> what it is
    "baseline": "DINO, classification head",
    "no_selection": "CQ-DINO, all V categories",
    "selection": "+ selection, no relation",
    "self_attention": "+ selection, self-attention",
    "tree": "+ selection, category tree",
}
ALL_EMOJI = 1884
CURVES = (
    "gradient/positive_to_negative",
    "gradient/hard_share",
    "gradient/hard_count_share",
    "gradient/negatives_per_positive",
    "loss_class",
    "loss_category",
)


@dataclass(frozen=True, order=True)
class RunKey:
    """What tells one run from the others of an experiment.

    Attributes:
        seed: of weights, data order and noise.
        categories: number of emoji; the vocabulary has their groups and sub-groups besides.
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
        steps: of the training.
        device: "cpu" or "cuda".
        train_images, val_images: size of each dataset.
        zipf: exponent of the categories' frequencies.
        overrides: of the configs.
    """

    steps: int
    device: str
    train_images: int = 4000
    val_images: int = 1000
    zipf: float = 1.0
    overrides: tuple[str, ...] = ()


def run_order(
    seeds: Sequence[int], categories: Sequence[int], variants: Sequence[str]
) -> list[RunKey]:
    """Seed by seed, so that a stop leaves complete comparisons."""
    return [RunKey(s, c, v) for s in seeds for c in categories for v in variants]


def num_selected(categories: int) -> int:
    """K: the paper's 100, or the quickstart's 32 for a vocabulary of the quickstart's size."""
    return max(32, min(100, categories // 4))


def datasets_folder(output: Path, categories: int) -> Path:
    """What `DETECTRON2_DATASETS` is for a vocabulary."""
    return output / "data" / str(categories)


def build_data(output: Path, categories: int, settings: RunSettings) -> None:
    """EmojiDet with Zipf frequencies, pictures as in the quickstart; kept if it is there.

    Raises:
        FileExistsError: it is there with other settings.
    """
    composition = CompositionSettings(
        image_size=128, object_size=(16, 48), overlap=0.3, hue_shift=True, grey_share=0.1
    )
    wanted = EmojiDetSettings(
        categories=categories,
        train_images=settings.train_images,
        val_images=settings.val_images,
        composition=composition,
        zipf=settings.zipf,
        interior_categories=True,
    )
    folder = datasets_folder(output, categories) / "emojidet"
    build_emojidet(folder, wanted, workers=min(2, os.cpu_count() or 1))


def result_file(output: Path, key: RunKey) -> Path:
    """Where a run's figures are."""
    return output / "runs" / f"{key}.json"


def is_done(output: Path, key: RunKey, settings: RunSettings) -> bool:
    """Whether the run is complete.

    Raises:
        ValueError: it is, with other settings.
    """
    path = result_file(output, key)
    if not path.is_file():
        return False
    there, wanted = (
        json.loads(path.read_text())["settings"],
        json.loads(json.dumps(asdict(settings))),
    )
    if there != wanted:
        different = {k: (there.get(k), v) for k, v in wanted.items() if there.get(k) != v}
        raise ValueError(
            f"{path} was made with other settings (there, wanted): {different}; name another "
            "--output or remove it"
        )
    return True


def training_command(output: Path, key: RunKey, settings: RunSettings) -> list[str]:
    """The arguments of Python for a run's training, from the repository's root."""
    return [
        "train_net.py",
        *("--config-file", f"{CONFIGS}/{key.variant}.py", "--resume"),
        *(["--num-gpus", "0"] if settings.device == "cpu" else ["--num-gpus", "1"]),
        *([f"model.selection.num_selected={num_selected(key.categories)}"] if key.selects else []),
        *settings.overrides,
        override("train.output_dir", output / "training" / str(key)),
        f"train.seed={key.seed}",
        f"train.max_iter={settings.steps}",
        f"train.checkpointer.period={max(1, settings.steps // 5)}",
        "train.checkpointer.max_to_keep=1",
        f"lr_multiplier.warmup_iter={max(1, 3 * settings.steps // 100)}",
    ]


def run(output: Path, key: RunKey, settings: RunSettings) -> dict[str, Any]:
    """Trains and evaluates in a process of its own (one thread on a CPU); returns the figures.

    Raises:
        subprocess.CalledProcessError: the training failed; its log names the reason.
    """
    command = training_command(output, key, settings)
    folder = output / "training" / str(key)
    folder.mkdir(parents=True, exist_ok=True)
    resumed = (folder / "last_checkpoint").is_file()
    environment = os.environ | {"DETECTRON2_DATASETS": str(datasets_folder(output, key.categories))}
    if settings.device == "cpu":
        environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = time.monotonic()
    with open(folder / "output.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    result = {
        "run": asdict(key),
        "settings": asdict(settings),
        "command": ["python", *command],
        "torch": torch.__version__,
        "resumed": resumed,  # then seconds and memory are those since the last start
        "wall_seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mib": _peak_memory(folder, settings.device, usage.ru_maxrss),
        **read_training(folder),
    }
    result_file(output, key).parent.mkdir(parents=True, exist_ok=True)
    write_metrics(result_file(output, key), result)
    return result


def evaluate_with_all(output: Path, key: RunKey) -> None:
    """Evaluates a finished run of a selecting variant with K = V, on the CPU or its first GPU.

    So nothing is lost to the selection; the detector has been trained with fewer categories,
    though. Writes ``all_at_test/KEY.json``, if it is not there.

    Raises:
        subprocess.CalledProcessError: the evaluation failed.
    """
    path = output / "all_at_test" / f"{key}.json"
    if path.is_file():
        return
    run_file = json.loads(result_file(output, key).read_text())
    training, folder = output / "training" / str(key), output / "all_at_test" / str(key)
    command = [
        "train_net.py",
        *("--config-file", f"{CONFIGS}/{key.variant}.py", "--eval-only"),
        *(["--num-gpus", "0"] if run_file["settings"]["device"] == "cpu" else []),
        *run_file["settings"]["overrides"],
        f"model.selection.num_selected={run_file['vocabulary_size']}",
        override("train.init_checkpoint", training / "model_inference.pth"),
        override("train.output_dir", folder),
    ]
    environment = os.environ | {"DETECTRON2_DATASETS": str(datasets_folder(output, key.categories))}
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "output.log", "wb") as log:
        subprocess.run(
            [sys.executable, *command],
            check=True,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    content = {"run": asdict(key), "command": ["python", *command]}
    write_metrics(path, content | {"figures": _figures(folder)})


def load_with_all(output: Path) -> list[dict[str, Any]]:
    """What `evaluate_with_all` wrote."""
    return [
        json.loads(path.read_text()) for path in sorted((output / "all_at_test").glob("*.json"))
    ]


def _figures(folder: Path) -> dict[str, float | None]:
    """COCO's figures with LVIS' APr, APc, APf and AP_lvis, and ARC."""
    results = json.loads((folder / "results.json").read_text())
    lvis = {name: results["lvis"][name] for name in ("APr", "APc", "APf")}
    return results["bbox"] | lvis | {"AP_lvis": results["lvis"]["AP"]} | results["selection"]


def _peak_memory(folder: Path, device: str, resident_kib: int) -> float:
    """MiB: on a GPU what PyTorch allocated at most, on a CPU the process's resident peak."""
    if device == "cpu":
        return round(resident_kib / 1024, 1)
    return max(float(x) for x in re.findall(r"max_mem: (\d+)M", (folder / "log.txt").read_text()))


def read_training(folder: Path) -> dict[str, Any]:
    """Figures and curves of a finished training.

    Returns:
        ``figures`` (COCO's, with LVIS' APr, APc, APf and AP_lvis, and ARC), ``curves`` (name ->
        steps and values), ``vocabulary_size``, ``parameters``, ``train_seconds``.
    """
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    curves = {}
    for name in CURVES:
        points = [(row["iteration"], row[name]) for row in rows if name in row]
        if points:
            steps, values = zip(*points, strict=True)
            curves[name] = {"steps": steps, "values": values}
    weights = torch.load(folder / "model_inference.pth", weights_only=True)["model"]
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    return {
        "figures": _figures(folder),
        "curves": curves,
        "vocabulary_size": len(vocabulary["names"]),
        "parameters": sum(x.numel() for x in weights.values()),
        "train_seconds": next(
            (row["train_seconds"] for row in reversed(rows) if "train_seconds" in row), None
        ),
    }


def load_runs(output: Path) -> list[dict[str, Any]]:
    """All complete runs, ordered by vocabulary, variant and seed."""
    runs = [json.loads(path.read_text()) for path in sorted((output / "runs").glob("*.json"))]
    order = list(VARIANTS)

    def place(one: dict[str, Any]) -> tuple[int, int, int]:
        key = one["run"]
        return key["categories"], order.index(key["variant"]), key["seed"]

    return sorted(runs, key=place)

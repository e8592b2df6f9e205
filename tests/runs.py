"""Runs of train_net.py in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
CONFIG = "tests/engine/toy_config.py"


def command(folder, *arguments, config=CONFIG):
    start = [sys.executable, "train_net.py", "--num-gpus", "0", "--config-file", config]
    return [*start, *arguments, f"train.output_dir={folder}"]


def environment():
    toys = str(ROOT / "tests" / "engine")
    return os.environ | {"PYTHONPATH": toys, "OMP_NUM_THREADS": "1"}


def run(folder, *arguments, expect=0, **kwargs):
    done = subprocess.run(
        command(folder, *arguments, **kwargs),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_python(code, *arguments, **variables):
    """Runs ``code`` in a fresh Python with environment variables; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def run_all(folder, *lists_of_arguments, **kwargs):
    """Several runs at once that need each other."""
    processes = [
        subprocess.Popen(
            command(folder, *arguments, **kwargs),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for arguments in lists_of_arguments
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
            process.wait()


def losses(folder):
    """Iteration -> every logged loss; one line per iteration at most."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    rows = [row for row in rows if "total_loss" in row]
    result = {
        row["iteration"]: {k: v for k, v in row.items() if "loss" in k or k == "gradient_norm"}
        for row in rows
    }
    assert len(result) == len(rows)
    return result


def kill_after_checkpoint(folder, name, *arguments, **kwargs):
    """Starts a training and kills it (SIGKILL) some steps after it wrote a checkpoint."""
    process = subprocess.Popen(command(folder, *arguments, **kwargs), cwd=ROOT, env=environment())
    try:
        end = time.monotonic() + 240
        while len(losses(folder) if (folder / "metrics.json").exists() else ()) < 7:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        assert (folder / name).exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def assert_same_weights(first, second):
    weights = [torch.load(f / "model_final.pth", weights_only=True) for f in (first, second)]
    for part in ("model", "ema"):
        tensors = [content[part].get("weights", content[part]) for content in weights]
        for key, value in tensors[0].items():
            assert torch.equal(value, tensors[1][key]), key

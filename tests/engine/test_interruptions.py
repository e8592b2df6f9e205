"""What an interrupted training leaves, and what is made of damaged files in its folder."""

import json
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from cqdino_d2.engine import Training, load_config
from tests.runs import CONFIG, ROOT, command, environment, losses


@contextmanager
def slow_training(folder, *, period):
    """A training that takes minutes, once it has done some steps."""
    slow = ["train.max_iter=2000", "dataloader.train.delay=0.05"]
    process = subprocess.Popen(
        command(folder, *slow, f"train.checkpointer.period={period}"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a shell's background jobs, and with them these tests, may have been told to ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        end = time.monotonic() + 240
        while not ((folder / "metrics.json").is_file() and len(losses(folder)) >= 7):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_interrupt_is_one_line_and_can_be_resumed(tmp_path):
    with slow_training(tmp_path, period=5) as process:
        process.send_signal(signal.SIGINT)
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert log.count("interrupted: see --resume") == 1 and "Traceback" not in log
    resume(tmp_path)
    assert len(losses(tmp_path)) >= 10


def test_a_termination_loses_no_step(tmp_path):
    with slow_training(tmp_path, period=1000) as process:
        assert not (tmp_path / "last_checkpoint").is_file()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert log.count("Stopped by SIGTERM") == 1 and "Traceback" not in log
    done = max(losses(tmp_path))
    assert (tmp_path / "last_checkpoint").read_text() == f"model_{done:07d}.pth"
    resume(tmp_path, steps=done + 3)
    assert sorted(losses(tmp_path)) == list(range(done + 3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    cfg = load_config(ROOT / CONFIG, [f"train.output_dir={folder}", "train.max_iter=4"])
    Training.prepare(cfg, resume=False, load_embeddings=None).run()
    return folder


def resume(folder, steps=12):
    cfg = load_config(ROOT / CONFIG, [f"train.output_dir={folder}", f"train.max_iter={steps}"])
    Training.prepare(cfg, resume=True, load_embeddings=None).run()


def test_damaged_lines_of_the_metrics_are_left_out(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    with open(tmp_path / "run/metrics.json", "ab") as file:
        file.write(b'\xff{{{\n[1]\n{"no": 1}\nnull\n{"iteration": null}\n')
    resume(tmp_path / "run", steps=6)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    assert sorted(losses(tmp_path / "run")) == list(range(6)) and all(
        "iteration" in r for r in rows
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("last_checkpoint", b"\xff\xfe", "last_checkpoint is no text file in UTF-8"),
        ("last_checkpoint", b"gone.pth", "there is no .*gone.pth"),
        ("model_final.pth", b"PK\x03\x04 cut", "model_final.pth cannot be read: it is cut short"),
        ("vocabulary.json", b"{", "vocabulary.json is not a vocabulary"),
    ],
)
def test_a_damaged_file_is_named(trained, tmp_path, name, content, message):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/last_checkpoint").write_text("model_final.pth")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        resume(tmp_path / "run")
